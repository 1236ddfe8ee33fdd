"use strict";
(() => {
  const root = document.documentElement;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    document.getElementById("theme").textContent = dark ? "Light" : "Dark";
  };
  setTheme(prefersDark.matches);
  prefersDark.addEventListener("change", (event) => setTheme(event.matches));
  document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
  window.addEventListener("beforeprint", () => { root.dataset.theme = "light"; });

  // The per-layer table: rows come as arrays, names by index into `strings`; text is only ever set as text.
  const data = JSON.parse(document.getElementById("ops-data").textContent);
  const NAMES = 7; // columns that hold names; the rest are numbers
  const body = document.querySelector("#ops-table tbody");
  const search = document.getElementById("ops-search");
  const target = document.getElementById("ops-target");
  const phase = document.getElementById("ops-phase");
  const more = document.getElementById("ops-more");
  const count = document.getElementById("ops-count");
  const rows = data.rows.map((row) => row.map((cell, i) => (i < NAMES ? data.strings[cell] : cell)));
  const state = { column: NAMES, descending: true, limit: 60 };
  const scales = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"]];
  const si = (value, unit) => {
    if (!value) return "0";
    const [scale, prefix] = scales.find(([s]) => Math.abs(value) >= s) || scales[scales.length - 1];
    return `${Number((value / scale).toPrecision(3))} ${prefix}${unit}`;
  };
  const format = [
    (v) => si(v * 1e-9, "s"), (v) => `${(100 * v).toFixed(2)} %`, (v) => si(v * 1e-12, "J"),
    (v) => si(v, ""), (v) => si(v, "B"), (v) => Number(v.toPrecision(3)).toString(),
  ];
  const cell = (text, name) => {
    const td = document.createElement("td");
    td.textContent = text;
    if (name) td.className = name;
    if (name === "long") td.title = text;
    return td;
  };
  const draw = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = rows.filter((row) =>
      (!target.value || row[0] === target.value) && (!phase.value || row[1] === phase.value) &&
      words.every((word) => row.slice(0, NAMES).join("\n").toLowerCase().includes(word)));
    const sign = state.descending ? -1 : 1;
    const key = state.column;
    shown.sort((a, b) => sign * (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0));
    body.replaceChildren(...shown.slice(0, state.limit).map((row) => {
      const tr = document.createElement("tr");
      row.forEach((value, i) => tr.append(i < NAMES ? cell(value, i === 3 ? "module" : i === 4 || i === 6 ? "long" : "") : cell(format[i - NAMES](value), "n")));
      return tr;
    }));
    const time = shown.reduce((sum, row) => sum + row[NAMES], 0);
    count.textContent = `${shown.length} of ${rows.length} rows, ${si(time * 1e-9, "s")} on the critical path`;
    more.hidden = shown.length <= state.limit;
  };
  document.querySelectorAll("#ops-table th").forEach((th, i) => th.querySelector("button").addEventListener("click", () => {
    state.descending = state.column === i ? !state.descending : i >= NAMES;
    state.column = i;
    document.querySelectorAll("#ops-table th").forEach((other) => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    draw();
  }));
  for (const input of [search, target, phase]) input.addEventListener("input", () => { state.limit = 60; draw(); });
  more.addEventListener("click", () => { state.limit = Infinity; draw(); });
  draw();
})();
