// Below the galleries on the page: filters and sorts the cards of each. Without it, all are shown, by class.
for (const gallery of document.querySelectorAll(".gallery")) {
  const form = gallery.querySelector("form");
  const { label, list, score } = form.elements;
  const easiestFirst = form.querySelector("button");
  const sorted = gallery.querySelector(".gallery-sorted");
  const groups = [...gallery.querySelectorAll(".gallery-group")];
  const cards = [...gallery.querySelectorAll(".gallery-card")].map((item, index) => ({
    item,
    index,
    group: item.parentElement,
    label: item.dataset.label,
    lists: item.dataset.lists.split(" "),
    places: item.dataset.places.split(" ").map(Number),
    values: item.dataset.values.split("|"),
    value: item.querySelector(".gallery-score"),
  }));

  const show = () => {
    const by = score.value;
    const { text, dataset } = score.selectedOptions[0];
    const direction = easiestFirst.getAttribute("aria-pressed") === "true" ? -1 : 1;
    // Smaller comes first. The page is ordered hardest first; places count from the easiest.
    const order = (card) => direction * (by === "" ? card.index : -card.places[by]);
    let count = 0;
    for (const card of [...cards].sort((a, b) => order(a) - order(b))) {
      card.item.hidden =
        (label.value !== "" && card.label !== label.value) ||
        (list.value !== "" && !card.lists.includes(list.value));
      count += !card.item.hidden;
      card.value.hidden = by === "";
      card.value.textContent = by === "" ? "" : `${text}: ${card.values[by]}`;
      (by === "" ? card.group : sorted).append(card.item);
    }
    sorted.hidden = by === "";
    for (const group of groups) group.hidden = !group.querySelector(".gallery-card:not([hidden])");
    form.querySelector(".gallery-count").textContent = `${count} of ${cards.length} examples`;
    form.querySelector(".gallery-about").textContent = dataset.about;
  };

  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  easiestFirst.addEventListener("click", () => {
    easiestFirst.setAttribute("aria-pressed", easiestFirst.getAttribute("aria-pressed") !== "true");
    show();
  });
  form.hidden = false;
  show();
}
