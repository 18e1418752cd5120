#!/bin/sh
# Every run behind these reports, from a folder that holds data/ten: the first ten classes of Tiny-ImageNet in
# the order of their names, train/CLASS/*.JPEG and val/CLASS/*.JPEG. A run that is finished is not run again,
# and an interrupted one goes on.
set -eu

# digits at their 8 x 8 pixels; ten classes of Tiny-ImageNet at 32 x 32.
digits="--data digits --epochs 20 --lr 0.005"
mlp="--data imagefolder:data/ten --size 32 --model mlp --epochs 15 --lr 0.005"
cnn="--data imagefolder:data/ten --size 32 --model small_cnn --epochs 15 --lr 0.02"
network="grand grand-last-layer prediction-depth prototypicality self-confidence"

# Label noise: each label is redrawn with probability 0.3, for every seed anew.
for seed in 0 1 2; do
    hardness track $digits --noise 0.3 --noise-seed $seed --seed $seed --coherence-every 1 \
        --out runs/digits-noise-s$seed --resume
    hardness track $cnn --noise 0.3 --noise-seed $seed --seed $seed --coherence-every 1 \
        --out runs/ten-noise-s$seed --resume
    for data in digits ten; do hardness score --run runs/$data-noise-s$seed --with $network; done
done

# Clean labels: two networks, three seeds; coherence of the fifths of each class, at every epoch.
for seed in 0 1 2; do
    hardness track $digits --model mlp --seed $seed --checkpoint-every 1 --out runs/digits-mlp-s$seed --resume
    hardness track $digits --model small_cnn --seed $seed --checkpoint-every 1 --out runs/digits-cnn-s$seed --resume
    hardness track $mlp --seed $seed --checkpoint-every 1 --out runs/ten-mlp-s$seed --resume
    hardness track $cnn --seed $seed --checkpoint-every 1 --out runs/ten-cnn-s$seed --resume
    for run in digits-mlp digits-cnn ten-mlp ten-cnn; do
        hardness split --run runs/$run-s$seed --balance class
        hardness score --run runs/$run-s$seed --with $network --coherence
    done
done

hardness report --title "Scores: agreement and coherence" --out reports/agreement-coherence --runs \
    runs/digits-mlp-s? runs/digits-cnn-s? runs/ten-mlp-s? runs/ten-cnn-s?
hardness report --title "Wrong labels" --out reports/wrong-labels --runs runs/digits-noise-s? runs/ten-noise-s?
python -m tests.benchmarks.label_errors runs/digits-noise-s?
python -m tests.benchmarks.label_errors runs/ten-noise-s?
