"use strict";
// Tables that sort and filter. Without this script they stand complete, in the order of the plan.
for (const table of document.querySelectorAll("table.sorted")) {
  const tools = table.closest("section").querySelector(".tools");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const names = heads.map((head) => head.textContent);
  const search = tools.querySelector("input");
  const choices = [...tools.querySelectorAll("select.choice")];
  const order = tools.querySelector("select.order");
  const direction = tools.querySelector("button.direction");
  const count = tools.querySelector(".count");
  const words = new Intl.Collator(undefined, { numeric: true });

  // Numbers by their value, words as a reader would; what is missing stands last either way.
  const compared = (column, sign) => (a, b) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    if (heads[column].classList.contains("text") || column === 0) {
      return sign * words.compare(x.textContent, y.textContent);
    }
    const [p, q] = [x.dataset.value, y.dataset.value];
    if (p === undefined || q === undefined) return (p === undefined) - (q === undefined);
    return sign * (Number(p) - Number(q));
  };

  const sort = () => {
    const column = order.value === "" ? null : Number(order.value);
    const down = direction.getAttribute("aria-pressed") === "true";
    const sorted = column === null ? rows : [...rows].sort(compared(column, down ? -1 : 1));
    body.append(...sorted);
    heads.forEach((head, i) => head.setAttribute("aria-sort", i !== column ? "none" : down ? "descending" : "ascending"));
  };

  const filter = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const cells = [...row.cells];
      const picked = choices.every((choice) =>
        choice.value === "" || cells[names.indexOf(choice.dataset.column)].textContent === choice.value);
      row.hidden = !(picked && wanted.every((word) => text.includes(word)));
      shown += !row.hidden;
    }
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  };

  // From a heading: upwards, then downwards, then as in the plan.
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      order.value = now === "descending" ? "" : String(column);
      direction.setAttribute("aria-pressed", String(now === "ascending"));
      sort();
    });
  });
  order.addEventListener("change", sort);
  direction.addEventListener("click", () => {
    direction.setAttribute("aria-pressed", String(direction.getAttribute("aria-pressed") !== "true"));
    sort();
  });
  search.addEventListener("input", filter);
  choices.forEach((choice) => choice.addEventListener("change", filter));
  tools.hidden = false;
  sort();
  filter();
}
