#!/bin/sh
# Every run behind this report, from a folder that holds data/tiny-imagenet-100 (100 classes of
# Tiny-ImageNet, train/CLASS/*.JPEG and val/CLASS/*.JPEG). A run that is finished is not run again, and an
# interrupted one goes on.
set -eu

# All 50,000 images.
hardness track --data imagefolder:data/tiny-imagenet-100 --model resnet18 --epochs 3 --batch-size 256 --lr 0.1 \
    --out runs/resnet18-64px --resume

# Ten whole classes: the first ten in the order of their names.
mkdir -p data/ten/train data/ten/val
for class in $(ls data/tiny-imagenet-100/train | head -n 10); do
    for part in train val; do
        ln -sfn "../../tiny-imagenet-100/$part/$class" "data/ten/$part/$class"
    done
done
for seed in 0 1 2; do
    hardness track --data imagefolder:data/ten --size 32 --model small_cnn --epochs 15 --lr 0.02 --seed $seed \
        --out runs/track-s$seed --resume
    hardness split --run runs/track-s$seed --quantile 0.2
    hardness split --run runs/track-s$seed --quantile 0.2 --balance class
    hardness retrain --split runs/track-s$seed/splits/q0.2.parquet --epochs 30 \
        --out runs/retrain-s$seed --resume
    hardness retrain --split runs/track-s$seed/splits/q0.2-class.parquet --epochs 30 \
        --out runs/retrain-class-s$seed --resume
done
# One learning rate for all but SGD with momentum 0.9, whose step is ten times as long at the same rate: at
# 0.1 it learned nothing (0.20 of the pristine labels after 25 epochs).
hardness memorize --data imagefolder:data/ten --size 32 --model small_cnn --noise 0.5 --seeds 3 \
    --optimizers sgd ra3 m3 rm3 --epochs 25 --lr 0.1 --batch-size 32 --out runs/memorize --resume
hardness memorize --data imagefolder:data/ten --size 32 --model small_cnn --noise 0.5 --seeds 3 \
    --optimizers sgdm --epochs 25 --lr 0.01 --batch-size 32 --out runs/memorize-sgdm --resume

hardness report --title "First light: Tiny-ImageNet" --out reports/first-light --runs runs/resnet18-64px \
    runs/track-s0 runs/track-s1 runs/track-s2 \
    runs/retrain-s0 runs/retrain-s1 runs/retrain-s2 \
    runs/retrain-class-s0 runs/retrain-class-s1 runs/retrain-class-s2 runs/memorize runs/memorize-sgdm
