"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const NS = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const short = (x) => typeof x !== "number" ? String(x) : x === 0 ? "0" : Math.abs(x) >= 1e5 || Math.abs(x) < 1e-3 ? x.toExponential(2) : String(+x.toPrecision(4));
  const value = (t, name) => name in t.m ? t.m[name] : t.p[name];
  const make = (parent, tag, attrs, text) => {
    const node = document.createElementNS(NS, tag);
    for (const k in attrs) node.setAttribute(k, attrs[k]);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  };
  const names = [...data.metrics, ...data.parameters];
  const live = data.trials.filter((t) => Object.keys(t.m).length);
  let selected = null, turn = 0.6, tilt = 0.45;

  const fill = (select, list, chosen) => {
    for (const name of list) {
      const option = document.createElement("option");
      option.value = option.textContent = name;
      option.selected = name === chosen;
      select.appendChild(option);
    }
  };
  const objectives = data.objectives;
  fill(byId("ax"), names, objectives[0]);
  fill(byId("ay"), names, objectives[1] || data.parameters[0] || objectives[0]);
  fill(byId("az"), ["none", ...names], "none");

  const scale = (name, log) => {
    const all = live.map((t) => value(t, name)).filter((v) => v !== undefined);
    if (all.some((v) => typeof v !== "number")) {
      const order = [...new Set(all.map(String))].sort();
      const at = (v) => order.length > 1 ? order.indexOf(String(v)) / (order.length - 1) : 0.5;
      return { at, ticks: order.map((v) => [at(v), v]) };
    }
    const f = log && all.every((v) => v > 0) ? Math.log10 : (v) => v;
    let low = Math.min(...all.map(f)), high = Math.max(...all.map(f));
    if (!(high > low)) { low -= 0.5; high += 0.5; }
    const at = (v) => (f(v) - low) / (high - low);
    const back = f === Math.log10 ? (x) => 10 ** x : (x) => x;
    return { at, ticks: [0, 0.25, 0.5, 0.75, 1].map((u) => [u, short(back(low + u * (high - low)))]) };
  };

  const select = (t) => {
    selected = t;
    const parts = [`trial ${t.n}${t.front ? " (front)" : t.ok ? "" : " (breaks a constraint)"}`];
    for (const k in t.p) parts.push(`${k} = ${short(t.p[k])}`);
    for (const k of data.metrics) if (k in t.m) parts.push(`${k} = ${short(t.m[k])}`);
    byId("detail").textContent = parts.join("   ");
    draw();
  };

  const point = (svg, t, x, y) => {
    const kind = t.front ? "front" : t.ok ? "other" : "bad";
    const dot = make(svg, "circle", { cx: x, cy: y, r: t.front ? 5.5 : 4, class: `pt ${kind}${t === selected ? " sel" : ""}` });
    make(dot, "title", {}, `trial ${t.n}`);
    dot.addEventListener("click", () => select(t));
  };

  const flat = (svg, nx, ny) => {
    const sx = scale(nx, byId("lx").checked), sy = scale(ny, byId("ly").checked);
    const X = (u) => 90 + 960 * u, Y = (u) => 420 - 390 * u;
    for (const [u, text] of sx.ticks) { make(svg, "line", { x1: X(u), x2: X(u), y1: 30, y2: 420, class: "axis" }); make(svg, "text", { x: X(u), y: 438, "text-anchor": "middle" }, text); }
    for (const [u, text] of sy.ticks) { make(svg, "line", { x1: 90, x2: 1050, y1: Y(u), y2: Y(u), class: "axis" }); make(svg, "text", { x: 82, y: Y(u) + 4, "text-anchor": "end" }, text); }
    make(svg, "text", { x: 1050, y: 460, "text-anchor": "end" }, nx);
    make(svg, "text", { x: 90, y: 18 }, ny);
    const drawn = live.filter((t) => value(t, nx) !== undefined && value(t, ny) !== undefined);
    const place = (t) => [X(sx.at(value(t, nx))), Y(sy.at(value(t, ny)))];
    const edge = drawn.filter((t) => t.front).map(place).sort((a, b) => a[0] - b[0]);
    if (objectives.length === 2 && objectives.includes(nx) && objectives.includes(ny) && edge.length > 1)
      make(svg, "polyline", { points: edge.map((p) => p.join(",")).join(" "), class: "edge" });
    for (const t of [...drawn.filter((t) => !t.front), ...drawn.filter((t) => t.front)]) point(svg, t, ...place(t));
  };

  const solid = (svg, axes) => {
    const scales = axes.map((name, i) => scale(name, i === 0 ? byId("lx").checked : i === 1 ? byId("ly").checked : false));
    const project = (u, v, w) => {
      const a = u - 0.5, b = w - 0.5, c = v - 0.5;
      const x = a * Math.cos(turn) + b * Math.sin(turn), depth = -a * Math.sin(turn) + b * Math.cos(turn);
      const y = c * Math.cos(tilt) - depth * Math.sin(tilt);
      return [540 + 400 * x, 235 - 255 * y, depth * Math.cos(tilt) + c * Math.sin(tilt)];
    };
    const corner = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], origin = project(0, 0, 0);
    corner.forEach((end, i) => {
      const to = project(...end);
      make(svg, "line", { x1: origin[0], y1: origin[1], x2: to[0], y2: to[1], class: "axis", "stroke-width": 2 });
      const ticks = scales[i].ticks;
      make(svg, "text", { x: to[0], y: to[1] - 6, "text-anchor": "middle" }, `${axes[i]} (${ticks[0][1]} … ${ticks[ticks.length - 1][1]})`);
    });
    const dots = live.filter((t) => axes.every((n) => value(t, n) !== undefined))
      .map((t) => [t, project(...axes.map((n, i) => scales[i].at(value(t, n))))]);
    dots.sort((p, q) => q[1][2] - p[1][2]);
    for (const [t, p] of dots) point(svg, t, p[0], p[1]);
  };

  const draw = () => {
    const svg = byId("scatter");
    svg.replaceChildren();
    const z = byId("az").value;
    if (z === "none") flat(svg, byId("ax").value, byId("ay").value);
    else solid(svg, [byId("ax").value, byId("ay").value, z]);
  };
  for (const id of ["ax", "ay", "az", "lx", "ly"]) byId(id).addEventListener("change", draw);
  let drag = null;
  byId("scatter").addEventListener("pointerdown", (e) => { drag = [e.clientX, e.clientY]; });
  window.addEventListener("pointerup", () => { drag = null; });
  window.addEventListener("pointermove", (e) => {
    if (!drag || byId("az").value === "none") return;
    turn += (e.clientX - drag[0]) / 150; tilt += (e.clientY - drag[1]) / 200;
    drag = [e.clientX, e.clientY];
    draw();
  });

  const parallel = () => {
    const svg = byId("lines");
    const axes = [...data.parameters, ...objectives];
    const scales = axes.map((n) => scale(n, false));
    const X = (i) => 60 + 960 * (axes.length > 1 ? i / (axes.length - 1) : 0.5), Y = (u) => 320 - 270 * u;
    const ok = live.filter((t) => t.ok);
    for (const t of [...ok.filter((t) => !t.front), ...ok.filter((t) => t.front)]) {
      const path = axes.map((n, i) => value(t, n) === undefined ? null : [X(i), Y(scales[i].at(value(t, n)))]).filter((p) => p);
      make(svg, "polyline", { points: path.map((p) => p.join(",")).join(" "), class: `line${t.front ? " front" : ""}` });
    }
    axes.forEach((n, i) => {
      make(svg, "line", { x1: X(i), x2: X(i), y1: 50, y2: 320, class: "axis", "stroke-width": 2 });
      const name = n.includes(":") ? n.split(":")[1] : n;
      make(svg, "text", { x: X(i), y: i % 2 ? 34 : 18, "text-anchor": "middle" }, name);
      const ticks = scales[i].ticks;
      make(svg, "text", { x: X(i), y: 336, "text-anchor": "middle" }, ticks[0][1]);
      make(svg, "text", { x: X(i), y: 46, "text-anchor": "middle" }, ticks[ticks.length - 1][1]);
    });
  };

  let order = "n", down = false;
  const rest = data.metrics.filter((m) => !objectives.includes(m) && live.some((t) => m in t.m));
  const columns = ["n", ...objectives, ...data.parameters, ...rest.slice(0, 8)];
  const cell = (t, c) => c === "n" ? t.n : value(t, c);
  const table = () => {
    const want = byId("search").value.trim().toLowerCase();
    const body = byId("table").tBodies[0];
    const match = (t) => !want || (want === "front" && t.front) || [t.n, t.note, ...Object.values(t.p)].some((v) => String(v).toLowerCase().includes(want));
    const rows = data.trials.filter(match);
    const rank = (t) => { const v = cell(t, order); return v === undefined ? Infinity : v; };
    rows.sort((a, b) => { const x = rank(a), y = rank(b); const s = x < y ? -1 : x > y ? 1 : a.n - b.n; return down ? -s : s; });
    body.replaceChildren();
    for (const t of rows.slice(0, 1000)) {
      const row = body.insertRow();
      if (t.front) row.className = "front";
      for (const c of columns) {
        const td = row.insertCell(), v = cell(t, c);
        td.textContent = v === undefined ? (c === columns[1] ? t.note : "") : short(v);
        if (typeof v === "number") td.className = "n";
      }
      row.addEventListener("click", () => { select(t); });
    }
    byId("found").textContent = rows.length > 1000 ? `${rows.length} trials, the first 1000 are listed` : `${rows.length} trials`;
  };
  const head = byId("table").tHead.insertRow();
  for (const c of columns) {
    const th = document.createElement("th"), button = document.createElement("button");
    button.textContent = c === "n" ? "trial" : c.includes(":") ? c.split(":")[1] : c;
    button.title = c;
    button.addEventListener("click", () => { down = order === c ? !down : false; order = c; table(); });
    th.appendChild(button);
    head.appendChild(th);
  }
  byId("search").addEventListener("input", table);
  draw(); parallel(); table();
})();
