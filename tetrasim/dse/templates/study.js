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
  const values = (name) => live.map((t) => value(t, name)).filter((v) => v !== undefined);
  fill(byId("ax"), names, objectives[0]);
  fill(byId("ay"), names, objectives[1] || data.parameters[0] || objectives[0]);
  fill(byId("az"), ["none", ...names], "none");
  fill(byId("ac"), ["front", ...names], data.parameters.includes("target") ? "target" : "front");
  // A logarithmic axis where values span more than a factor of 30.
  const wide = (name) => {
    const all = values(name);
    return all.length > 1 && all.every((v) => typeof v === "number" && v > 0) && Math.max(...all) > 30 * Math.min(...all);
  };

  const scale = (name, log) => {
    const all = values(name);
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

  const PALETTE = 8;
  const colours = () => {
    const name = byId("ac").value;
    if (name === "front") return { of: () => "", keys: [] };
    const all = values(name), order = [...new Set(all.map(String))].sort();
    if (all.some((v) => typeof v !== "number") || order.length <= PALETTE) {
      if (all.every((v) => typeof v === "number")) order.sort((a, b) => a - b);
      const hue = (v) => v === undefined ? "" : `var(--c${order.indexOf(String(v)) % PALETTE})`;
      return { of: (t) => hue(value(t, name)), keys: order.slice(0, 2 * PALETTE).map((v) => [hue(v), short(isNaN(v) ? v : +v)]) };
    }
    const s = scale(name, wide(name)), hue = (u) => `hsl(${230 - 200 * u} 70% 52%)`;
    const of = (t) => value(t, name) === undefined ? "" : hue(s.at(value(t, name)));
    return { of, keys: s.ticks.map(([u, text]) => [hue(u), text]) };
  };
  const legend = () => {
    const place = byId("legend");
    place.replaceChildren();
    for (const [colour, text] of colours().keys) {
      const key = document.createElement("span"), dot = document.createElement("i");
      dot.style.background = colour;
      key.append(dot, text);
      place.appendChild(key);
    }
  };

  const select = (t) => {
    selected = t;
    const parts = [`trial ${t.n}${t.front ? " (front)" : t.ok ? "" : " (breaks a constraint)"}`];
    for (const k in t.p) parts.push(`${k} = ${short(t.p[k])}`);
    for (const k of data.metrics) if (k in t.m) parts.push(`${k} = ${short(t.m[k])}`);
    parts.push(`tetrasim dse show FOLDER ${t.n}`);
    byId("detail").textContent = parts.join("   ");
    draw();
    parallel();
  };

  const point = (svg, t, x, y, colour) => {
    const kind = t.front ? "front" : t.ok ? "other" : "bad";
    const dot = make(svg, "circle", { cx: x, cy: y, r: t.front ? 5.5 : 4, class: `pt ${kind}${t === selected ? " sel" : ""}` });
    if (colour) dot.style[t.ok || t.front ? "fill" : "stroke"] = colour;
    make(dot, "title", {}, [`trial ${t.n}`, ...objectives.map((m) => `${m} ${short(t.m[m])}`), ...Object.entries(t.p).map(([k, v]) => `${k} ${short(v)}`)].join("\n"));
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
    const colour = colours();
    for (const t of [...drawn.filter((t) => !t.front), ...drawn.filter((t) => t.front)]) point(svg, t, ...place(t), colour.of(t));
  };

  const solid = (svg, axes) => {
    const scales = axes.map((name, i) => scale(name, i === 0 ? byId("lx").checked : i === 1 ? byId("ly").checked : wide(name)));
    const project = (u, v, w) => {
      const a = u - 0.5, b = w - 0.5, c = v - 0.5;
      const x = a * Math.cos(turn) + b * Math.sin(turn), depth = -a * Math.sin(turn) + b * Math.cos(turn);
      const y = c * Math.cos(tilt) - depth * Math.sin(tilt);
      return [540 + 400 * x, 235 - 255 * y, depth * Math.cos(tilt) + c * Math.sin(tilt)];
    };
    const corner = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], origin = project(0, 0, 0);
    for (const [from, to] of [[[1, 0, 0], [1, 0, 1]], [[0, 0, 1], [1, 0, 1]], [[0, 1, 0], [0, 1, 1]], [[0, 0, 1], [0, 1, 1]], [[1, 0, 0], [1, 1, 0]], [[0, 1, 0], [1, 1, 0]]]) {
      const a = project(...from), b = project(...to);
      make(svg, "line", { x1: a[0], y1: a[1], x2: b[0], y2: b[1], class: "axis" });
    }
    corner.forEach((end, i) => {
      const to = project(...end);
      make(svg, "line", { x1: origin[0], y1: origin[1], x2: to[0], y2: to[1], class: "axis", "stroke-width": 2 });
      const ticks = scales[i].ticks;
      make(svg, "text", { x: to[0], y: to[1] - 6, "text-anchor": "middle" }, `${axes[i]} (${ticks[0][1]} … ${ticks[ticks.length - 1][1]})`);
    });
    const dots = live.filter((t) => axes.every((n) => value(t, n) !== undefined))
      .map((t) => [t, project(...axes.map((n, i) => scales[i].at(value(t, n))))]);
    dots.sort((p, q) => q[1][2] - p[1][2]);
    const colour = colours();
    for (const [t, p] of dots) point(svg, t, p[0], p[1], colour.of(t));
  };

  const draw = () => {
    const svg = byId("scatter");
    svg.replaceChildren();
    const z = byId("az").value;
    if (z === "none") flat(svg, byId("ax").value, byId("ay").value);
    else solid(svg, [byId("ax").value, byId("ay").value, z]);
  };
  const guess = (box, axis) => { byId(box).checked = wide(byId(axis).value); };
  byId("ax").addEventListener("change", () => { guess("lx", "ax"); draw(); });
  byId("ay").addEventListener("change", () => { guess("ly", "ay"); draw(); });
  for (const id of ["az", "lx", "ly"]) byId(id).addEventListener("change", draw);
  byId("ac").addEventListener("change", () => { legend(); draw(); parallel(); });
  let drag = null;
  byId("scatter").addEventListener("pointerdown", (e) => { drag = [e.clientX, e.clientY]; });
  window.addEventListener("pointerup", () => { drag = null; });
  window.addEventListener("pointermove", (e) => {
    if (!drag || byId("az").value === "none") return;
    turn += (e.clientX - drag[0]) / 150; tilt += (e.clientY - drag[1]) / 200;
    drag = [e.clientX, e.clientY];
    draw();
  });

  // A trial without a value (another target's parameter) runs along the bottom. Dragging along an axis keeps
  // the trials that pass through the span, here, in the plot's title and in the table.
  const axes = [...data.parameters, ...objectives], spans = new Map();
  const kept = (t) => [...spans].every(([n, [low, high, at]]) => { const v = value(t, n); return v !== undefined && at(v) >= low && at(v) <= high; });
  const X = (i) => 60 + 960 * (axes.length > 1 ? i / (axes.length - 1) : 0.5), Y = (u) => 320 - 270 * u, NONE = 352;
  const room = Math.max(8, Math.floor(2 * 960 / Math.max(axes.length - 1, 1) / 7.2));
  const parallel = () => {
    const svg = byId("lines"), colour = colours();
    svg.replaceChildren();
    const scales = axes.map((n) => scale(n, wide(n)));
    const ok = live.filter((t) => t.ok), rank = (t) => t === selected ? 3 : kept(t) ? (t.front ? 2 : 1) : 0;
    for (const t of [...ok].sort((p, q) => rank(p) - rank(q))) {
      const path = axes.map((n, i) => [X(i), value(t, n) === undefined ? NONE : Y(scales[i].at(value(t, n)))]);
      const line = make(svg, "polyline", { points: path.map((p) => p.join(",")).join(" "), class: `line${t.front ? " front" : ""}${rank(t) === 3 ? " sel" : rank(t) ? "" : " out"}` });
      if (colour.of(t) && rank(t) && rank(t) < 3) line.style.stroke = colour.of(t);
      line.addEventListener("click", () => select(t));
    }
    axes.forEach((n, i) => {
      make(svg, "line", { x1: X(i), x2: X(i), y1: 50, y2: 320, class: "axis", "stroke-width": 2 });
      const name = n.includes(":") ? n.split(":")[1] : n;
      const title = make(svg, "text", { x: X(i), y: i % 2 ? 34 : 18, "text-anchor": i === 0 ? "start" : i === axes.length - 1 ? "end" : "middle", dx: i === 0 ? -40 : i === axes.length - 1 ? 40 : 0 }, name.length > room ? `…${name.slice(-room)}` : name);
      make(title, "title", {}, n);
      const ticks = scales[i].ticks;
      make(svg, "text", { x: X(i), y: 336, "text-anchor": "middle" }, ticks[0][1]);
      make(svg, "text", { x: X(i), y: 46, "text-anchor": "middle" }, ticks[ticks.length - 1][1]);
      const span = spans.get(n);
      if (span) make(svg, "rect", { x: X(i) - 7, width: 14, y: Y(span[1]), height: Math.max(Y(span[0]) - Y(span[1]), 2), class: "span" });
      const grip = make(svg, "rect", { x: X(i) - 12, width: 24, y: 44, height: 282, class: "grip" });
      grip.addEventListener("pointerdown", (e) => { brush = { n, at: scales[i].at, from: height(svg, e) }; e.preventDefault(); });
    });
    if (axes.some((n) => ok.some((t) => value(t, n) === undefined))) make(svg, "text", { x: 4, y: NONE + 4 }, "not set");
  };
  let brush = null;
  const height = (svg, e) => {
    const box = svg.getBoundingClientRect();
    return Math.min(1.02, Math.max(-0.02, (320 - (e.clientY - box.top) * 360 / box.height) / 270));
  };
  window.addEventListener("pointermove", (e) => {
    if (!brush) return;
    const to = height(byId("lines"), e);
    spans.set(brush.n, [Math.min(brush.from, to), Math.max(brush.from, to), brush.at]);
    parallel();
  });
  window.addEventListener("pointerup", (e) => {
    if (!brush) return;
    if (Math.abs(height(byId("lines"), e) - brush.from) < 0.01) spans.delete(brush.n); // a click clears the axis
    brush = null;
    parallel(); table();
  });

  let order = "n", down = false;
  const rest = data.metrics.filter((m) => !objectives.includes(m) && live.some((t) => m in t.m));
  const columns = ["n", ...objectives, ...data.parameters, ...rest.slice(0, 8)];
  const cell = (t, c) => c === "n" ? t.n : value(t, c);
  const table = () => {
    const want = byId("search").value.trim().toLowerCase();
    const body = byId("table").tBodies[0];
    const match = (t) => !want || (want === "front" && t.front) || [t.n, t.note, ...Object.values(t.p)].some((v) => String(v).toLowerCase().includes(want));
    const rows = data.trials.filter((t) => match(t) && (!spans.size || kept(t)));
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
  guess("lx", "ax"); guess("ly", "ay");
  legend(); draw(); parallel(); table();
})();
