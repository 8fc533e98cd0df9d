/* The city screen: reads its panels as JSON, draws them, and reads them again when the live line says that something was
   committed. Numbers arrive as integers (kilograms) or decimal strings and are only written here, never summed as floats. */
"use strict";
(() => {
  const texts = JSON.parse(document.getElementById("texts").textContent);
  const english = document.documentElement.lang === "en";
  const locale = english ? "en-GB" : "zh-CN";
  const ZONE = "Asia/Shanghai";
  const DASH = "—";
  const COLOURS = {
    raw: "#e8a04c", cleaned: "#4db6e8", middlings: "#8e8bf0", slime: "#a58a6f", gangue: "#8494ab",
    coke: "#ef6f6c", anthracite: "#3fc1a5", lignite: "#d0b24a", other: "#5f7594",
  };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

  const t = (key, parameters = {}) =>
    texts[key].replace(/\{([a-z_]+)(?::[a-z]+)?\}/g, (_, name) => parameters[name] ?? DASH);

  /* Formats. h23, because hour12: false prints 24:00 on older Chromium. */
  const format = (options) => {
    const formatter = new Intl.DateTimeFormat("en-GB", { timeZone: ZONE, hourCycle: "h23", ...options });
    return (ms) => Object.fromEntries(formatter.formatToParts(new Date(ms)).map((p) => [p.type, p.value]));
  };
  const parts = format({ year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const clockText = (ms) => { const p = parts(ms); return `${p.hour}:${p.minute}:${p.second}`; };
  const hourText = (ms) => { const p = parts(ms); return `${p.hour}:${p.minute}`; };
  const dayText = (ms) => { const p = parts(ms); return `${p.year}-${p.month}-${p.day}`; };
  const stampText = (ms) => `${dayText(ms)} ${clockText(ms)}`;
  const shortStamp = (ms, now) => (dayText(ms) === dayText(now) ? clockText(ms) : `${dayText(ms).slice(5)} ${hourText(ms)}`);
  const filterTime = (ms) => `${dayText(ms)} ${hourText(ms)}`;
  const grouped = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
  const count = (n) => (n === null || n === undefined ? DASH : grouped.format(n));
  const minus = (n) => (n < 0 ? "−" : "");
  /* Kilograms as tonnes, exactly: integer division, three decimals. Sums stay far below 2^53 kg. */
  const tonneParts = (kg) => {
    const size = Math.abs(kg), whole = Math.floor(size / 1000);
    return [minus(kg) + grouped.format(whole), String(size - whole * 1000).padStart(3, "0")];
  };
  const tonnes = (kg) => (kg === null || kg === undefined ? DASH : tonneParts(kg).join("."));
  /* An axis needs a picture of the number, not the number. */
  const axisTonnes = (kg) => grouped.format(kg / 1000);
  const decimal = (text) => {
    const [whole, rest] = String(text).split(".");
    const sign = whole.startsWith("-") ? "−" : "";
    const fraction = (rest || "").slice(0, 3).replace(/0+$/, "");
    return sign + grouped.format(BigInt(whole.replace("-", "") || "0")) + (fraction ? `.${fraction}` : "");
  };

  /* DOM without markup strings: nothing that was sent by a device is ever parsed as HTML. */
  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "class") node.className = value;
      else if (name === "width") node.style.width = value;
      else if (name === "colour") node.style.background = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
    return node;
  };
  const address = (path, parameters) => {
    const query = new URLSearchParams(Object.entries(parameters).filter(([, v]) => v !== null && v !== undefined && v !== ""));
    return `${path}?${query}`;
  };

  /* Charts */
  const charts = new Map();
  const sans = getComputedStyle(document.body).fontFamily;
  const INK = "#a9b8ce", LINE = "#1e2b3f";
  const chart = (panel) => {
    if (!window.echarts) return null;
    if (!charts.has(panel.name)) {
      const box = panel.root.querySelector("[data-chart]");
      const made = window.echarts.init(box, null, { renderer: "canvas" });
      new ResizeObserver(() => { if (box.clientWidth) made.resize(); }).observe(box);
      charts.set(panel.name, made);
    }
    return charts.get(panel.name);
  };
  /* A formatter gives a node, never markup: text from devices is not parsed, and no style attribute meets the
     Content-Security-Policy (ECharts sets its own through the object model). */
  const tooltip = (formatter, pointer) => ({
    trigger: "axis", confine: true, className: "tip", backgroundColor: "#16243af7", borderColor: "#31445f", borderWidth: 1, padding: 0,
    transitionDuration: still ? 0 : 0.15, axisPointer: pointer, formatter,
  });
  const tip = (head, rows) => el("div", { class: "tip-body" }, el("p", { class: "tip-head" }, head),
    ...rows.map(([colour, name, value]) => el("p", { class: "tip-row" }, colour ? el("i", { colour }) : null, el("span", {}, name), el("b", {}, value))));
  const axisText = { color: INK, fontFamily: sans, fontSize: 11.5 };
  const base = { animation: !still, animationDuration: 500, animationDurationUpdate: 500, textStyle: { fontFamily: sans }, grid: { left: 4, right: 10, top: 34, bottom: 2, containLabel: true } };

  const drawHours = (panel, data) => {
    const drawn = chart(panel);
    const total = data.series.reduce((sum, s) => sum + s.kg.reduce((a, b) => a + (b ?? 0), 0), 0);
    panel.root.querySelector("[data-chart]").setAttribute(
      "aria-label",
      t("chart.hours", { total: tonnes(total), series: data.series.map((s) => `${s.name} ${tonnes(s.kg.reduce((a, b) => a + (b ?? 0), 0))}`).join(english ? ", " : "，") }),
    );
    if (!drawn) return;
    drawn.setOption({
      ...base,
      color: data.series.map((s) => COLOURS[s.code] ?? COLOURS.other),
      legend: { top: 0, left: 0, icon: "roundRect", itemWidth: 10, itemHeight: 10, itemGap: 16, textStyle: { ...axisText, fontSize: 12 }, inactiveColor: "#4a5a72", type: "scroll", pageIconColor: INK, pageTextStyle: { color: INK } },
      tooltip: tooltip((items) => {
        const start = data.hours[items[0].dataIndex];
        const shown = items.filter((i) => typeof i.value === "number").reverse();
        const rows = shown.map((i) => [i.color, i.seriesName, `${tonnes(i.value)} ${texts["unit.t"]}`]);
        if (shown.length > 1) rows.push([null, texts["total"], `${tonnes(shown.reduce((a, i) => a + i.value, 0))} ${texts["unit.t"]}`]);
        return tip(`${dayText(start)} ${hourText(start)}–${hourText(start + 3600000)}`, rows.length ? rows : [[null, texts["empty.hour"], ""]]);
      }, { type: "shadow", shadowStyle: { color: "#ffffff0d" } }),
      xAxis: { type: "category", data: data.hours.map(hourText), axisLine: { lineStyle: { color: "#33445d" } }, axisTick: { show: false }, axisLabel: { ...axisText, interval: (i) => i % 3 === data.hours.length % 3, hideOverlap: true } },
      yAxis: { type: "value", splitNumber: 4, splitLine: { lineStyle: { color: LINE } }, axisLabel: { ...axisText, formatter: axisTonnes } },
      series: data.series.map((s) => ({
        type: "bar", stack: "all", name: s.name, data: s.kg.map((v) => v ?? "-"), barCategoryGap: "26%", cursor: "pointer",
        itemStyle: { borderColor: "#0e1623", borderWidth: 0.5 }, emphasis: { focus: "series" }, blur: { itemStyle: { opacity: 0.35 } },
      })),
    }, { replaceMerge: ["series"] });
    drawn.off("click");
    drawn.on("click", (event) => {
      const start = data.hours[event.dataIndex];
      location.assign(address("/tickets", { direction: "out", commodity: data.series[event.seriesIndex].code, gross_from: filterTime(start), gross_to: filterTime(start + 3600000) }));
    });
  };

  const drawLoad = (panel, data) => {
    const picker = document.getElementById("meter");
    const ids = data.meters.map((m) => m.meter).join("\n");
    if (picker.dataset.ids !== ids) {
      picker.replaceChildren(...data.meters.map((m) => el("option", { value: m.meter }, m.name)));
      picker.dataset.ids = ids;
    }
    picker.disabled = data.meters.length === 0;
    if (data.meter) picker.value = data.meter;
    panel.root.querySelector(".panel-source").href = address("/load-curves", { meter: data.meter, slot: 15, from: filterTime(data.from) });
    if (!data.points.length) return "empty";
    const values = data.points.map((p) => Number(p[2]));
    const last = data.points[data.points.length - 1];
    panel.root.querySelector("[data-chart]").setAttribute(
      "aria-label",
      t("chart.load", { meter: data.name, last: `${decimal(last[2])} ${data.unit}`, low: `${decimal(String(Math.min(...values).toFixed(3)))} ${data.unit}`, high: `${decimal(String(Math.max(...values).toFixed(3)))} ${data.unit}` }),
    );
    const drawn = chart(panel);
    if (!drawn) return undefined;
    /* A slot without a reading breaks the line: a gap is not a zero and not a straight line either. */
    const line = [];
    data.points.forEach((p, i) => {
      if (i && p[0] > data.points[i - 1][1]) line.push([data.points[i - 1][1], null]);
      line.push([p[0], Number(p[2]), p]);
    });
    line.push([last[1], Number(last[2]), last]);
    drawn.setOption({
      ...base,
      color: ["#5cc8f2"],
      tooltip: tooltip((items) => {
        const point = items[0]?.data?.[2];
        return point ? tip(`${dayText(point[0])} ${hourText(point[0])}–${hourText(point[1])}`, [["#5cc8f2", data.name, `${decimal(point[2])} ${data.unit}`]]) : "";
      }, { type: "line", lineStyle: { color: "#6b83a6", width: 1, type: "solid" } }),
      xAxis: { type: "time", min: data.from, max: data.to, minInterval: 3600000, splitNumber: 6, axisLine: { lineStyle: { color: "#33445d" } }, axisTick: { show: false }, splitLine: { show: false }, axisLabel: { ...axisText, formatter: (ms) => hourText(ms), hideOverlap: true } },
      yAxis: { type: "value", name: data.unit, nameTextStyle: { ...axisText, align: "right", padding: [0, 4, 0, 0] }, nameGap: 9, scale: false, splitNumber: 4, splitLine: { lineStyle: { color: LINE } }, axisLabel: { ...axisText, formatter: (v) => grouped.format(v) } },
      series: [{
        type: "line", step: "end", data: line, showSymbol: false, lineStyle: { width: 2 }, connectNulls: false,
        areaStyle: { color: { type: "linear", x: 0, y: 0, x2: 0, y2: 1, colorStops: [{ offset: 0, color: "#5cc8f259" }, { offset: 1, color: "#5cc8f205" }] } },
      }],
    }, { replaceMerge: ["series"] });
    return undefined;
  };

  /* Lists */
  const drawDistricts = (panel, data) => {
    const most = Math.max(1, ...data.rows.flatMap((r) => [r.in_kg ?? 0, r.out_kg ?? 0]));
    const wing = (row, direction) => {
      const kg = row[`${direction}_kg`];
      const known = kg !== null;
      return el("a", {
        class: `wing-${direction}${known ? "" : " wing-none"}`,
        href: address("/tickets", { division: row.division, direction, gross_from: data.day }),
        "aria-label": `${row.name} ${texts[`direction.${direction}`]} ${tonnes(kg)} ${known ? texts["unit.t"] : ""}`,
      }, el("span", { class: "wing-value" }, tonnes(kg)), el("span", { class: "wing-track" }, el("span", { class: "wing-bar", width: `${((kg ?? 0) / most) * 100}%` })));
    };
    panel.rows.replaceChildren(
      el("div", { class: "wing-head" }, el("span", {}, `${texts["direction.in"]} (${texts["unit.t"]})`), el("span"), el("span", {}, `${texts["direction.out"]} (${texts["unit.t"]})`)),
      ...data.rows.map((row) => el("div", { class: "wing" }, wing(row, "in"), el("span", { class: "wing-name" }, row.name), wing(row, "out"))),
    );
    return data.rows.length ? undefined : "empty";
  };

  /* On a screen that does not scroll, rows that would be cut are left out whole. */
  const fit = (list, box) => {
    const rows = [...list.children];
    for (const row of rows) row.hidden = false;
    if (getComputedStyle(box).overflowY !== "hidden") return 0;
    const floor = box.getBoundingClientRect().bottom - 5;
    const cut = rows.filter((row) => row.getBoundingClientRect().bottom > floor + 5);
    for (const row of cut) row.hidden = true;
    return cut.length;
  };

  const drawStocks = (panel, data) => {
    const most = Math.max(1, ...data.rows.map((r) => r.parts.reduce((sum, p) => sum + Math.max(0, p.kg), 0)));
    const order = Object.keys(COLOURS);
    const codes = new Map(data.rows.flatMap((r) => r.parts.map((p) => [p.code, p.name])).sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0])));
    const unknown = data.rows.some((r) => r.mass_kg === null);
    panel.content.querySelector(".key")?.remove();
    panel.content.querySelector(".more")?.remove();
    panel.content.prepend(el("p", { class: "key" },
      ...[...codes].map(([code, name]) => el("span", {}, el("i", { colour: COLOURS[code] ?? COLOURS.other }), name)),
      unknown ? el("span", { class: "key-unknown", title: texts["stock.unknown.means"] }, el("i"), texts["stock.unknown"]) : null));
    panel.rows.replaceChildren(...data.rows.map((row) => {
      const known = row.mass_kg !== null;
      const value = known ? tonnes(row.mass_kg) : texts["stock.unknown"];
      return el("li", { class: known ? "" : "bar-unknown" }, el("a", {
        href: address("/stocks", { site: row.site }),
        "aria-label": `${row.name}: ${value}${known ? ` ${texts["unit.t"]}` : ""}`,
        title: known ? row.parts.map((p) => `${p.name} ${tonnes(p.kg)} ${texts["unit.t"]}`).join("\n") : `${texts["stock.unknown.means"]}\n${t("stock.changed", { mass_kg: tonnes(row.change_kg) })}`,
      }, el("span", { class: "bar-name" }, row.name),
      el("span", { class: "bar-track" }, ...(known ? row.parts.map((p) => el("i", { width: `${(Math.max(0, p.kg) / most) * 100}%`, colour: COLOURS[p.code] ?? COLOURS.other })) : [])),
      el("span", { class: "bar-value" }, known ? `${value} ${texts["unit.t"]}` : value)));
    }));
    const more = el("p", { class: "more" });
    if (data.more) panel.content.append(more);
    if (fit(panel.rows, panel.rows) && !data.more) { panel.content.append(more); fit(panel.rows, panel.rows); }
    more.textContent = t("panel.more", { count: count(data.more + [...panel.rows.children].filter((row) => row.hidden).length) });
    return data.rows.length ? undefined : "empty";
  };

  const drawWeighings = (panel, data) => {
    const known = new Set([...panel.rows.children].map((row) => row.dataset.id));
    const first = known.size === 0;
    panel.rows.replaceChildren(...data.rows.map((row) => el("tr", { "data-id": row.id, class: first || known.has(row.id) ? null : "fresh" },
      el("td", {}, el("time", { datetime: new Date(row.time).toISOString(), title: stampText(row.time) }, shortStamp(row.time, data.now))),
      el("td", { class: "plate" }, row.plate),
      el("td", { title: row.site_name }, row.site_name || DASH),
      el("td", {}, ...(row.commodity ? [el("span", { class: "dot", colour: COLOURS[row.commodity] ?? COLOURS.other }), row.commodity_name] : [DASH])),
      el("td", { class: "number" }, tonnes(row.mass_kg)))));
    fit(panel.rows, panel.content);
    return data.rows.length ? undefined : "empty";
  };

  const drawWarnings = (panel, data) => {
    /* Rows that stay are kept as nodes, so that a screen reader is told of new ones only. */
    const held = new Map([...panel.rows.children].map((node) => [node.dataset.id, node]));
    const first = held.size === 0;
    const nodes = data.rows.map((row) => {
      const digest = JSON.stringify(row);
      const old = held.get(row.warning);
      if (old && old.dataset.digest === digest) return old;
      return el("li", { "data-id": row.warning, "data-digest": digest, class: first || old ? null : "fresh" },
        el("a", { href: row.href, "data-severity": row.severity },
          el("span", { class: `tag tag-${row.severity}` }, row.severity_name),
          el("span", { class: "warning-title" }, row.title),
          el("time", { class: "warning-since", datetime: new Date(row.since).toISOString(), title: stampText(row.since) }, shortStamp(row.since, data.now)),
          el("span", { class: "warning-text" }, row.text)));
    });
    const wanted = new Set(nodes);
    for (const node of [...panel.rows.children]) if (!wanted.has(node)) node.remove();
    nodes.forEach((node, i) => { if (panel.rows.children[i] !== node) panel.rows.insertBefore(node, panel.rows.children[i] ?? null); });
    panel.content.querySelector(".more")?.remove();
    if (data.more) panel.content.append(el("p", { class: "more" }, t("panel.more", { count: count(data.more) })));
    return data.rows.length ? undefined : "empty";
  };

  const spark = (name, values) => {
    const svg = document.querySelector(`[data-spark="${name}"]`);
    const most = Math.max(1, ...values.map((v) => v ?? 0));
    svg.setAttribute("viewBox", `0 0 ${values.length * 4} 30`);
    svg.replaceChildren(...values.map((v, i) => {
      const bar = document.createElementNS(svg.namespaceURI, "rect");
      const height = v ? Math.max(1, (v / most) * 30) : 0;
      for (const [key, value] of Object.entries({ x: i * 4, y: 30 - height, width: 3, height, rx: 0.6, opacity: 0.3 + (0.7 * i) / values.length })) bar.setAttribute(key, value);
      return bar;
    }));
  };
  const drawOverview = (panel, data) => {
    const set = (name, ...content) => panel.root.querySelector(`[data-kpi="${name}"]`).replaceChildren(...content);
    const more = (name, text) => panel.root.querySelector(`[data-more="${name}"]`).replaceChildren(text);
    for (const name of ["out", "in"]) {
      const kg = data[`${name}_kg`];
      if (kg === null) set(name, DASH);
      else { const [whole, rest] = tonneParts(kg); set(name, whole, el("small", {}, `.${rest} ${texts["unit.t"]}`)); }
      spark(name, data[`${name}_hours`]);
    }
    set("weighings", count(data.weighings));
    more("weighings", t("kpi.tickets", { count: count(data.tickets) }));
    set("warnings", count(data.warnings));
    more("warnings", data.high ? t("kpi.high", { count: count(data.high) }) : "");
    panel.root.querySelector(".kpi-warn").toggleAttribute("data-high", Boolean(data.high));
    set("devices", count(data.devices_online));
    more("devices", t("kpi.of", { count: count(data.devices) }));
    set("as_of", data.known_at === null ? DASH : clockText(data.known_at));
    more("as_of", data.known_at === null ? "" : dayText(data.known_at));
    panel.root.querySelector(".kpi-time").toggleAttribute("data-old", data.known_at !== null && data.now - data.known_at > OLD_MS);
  };

  /* Panels: draw, how often at most (ms), and which live topics touch them. */
  const declared = {
    overview: { draw: drawOverview, every: 2000 },
    weighings: { draw: drawWeighings, every: 5000 },
    warnings: { draw: drawWarnings, every: 2000 },
    hours: { draw: drawHours, every: 5000, empty: (d) => d.series.length === 0 },
    districts: { draw: drawDistricts, every: 5000 },
    stocks: { draw: drawStocks, every: 5000 },
    load: { draw: drawLoad, every: 10000 },
  };
  const ROWS = 20; /* weighings held; the panel shows as many as fit */
  const OLD_MS = 600000; /* figures that know nothing of the last ten minutes are marked */
  const SILENT_MS = 20000; /* the server sends a frame every 5 s at least; a line that says nothing is dead */
  const REFRESH_MS = 30000; /* also without a word from the live line: the hour moves on */
  const panels = Object.entries(declared).map(([name, rest]) => {
    const root = document.querySelector(`[data-panel="${name}"]`);
    return { name, ...rest, root, content: root.querySelector(".panel-content"), rows: root.querySelector("[data-rows]"), last: 0, timer: 0, busy: false, again: false, shown: false };
  });
  const byName = Object.fromEntries(panels.map((p) => [p.name, p]));

  const show = (panel, state) => {
    panel.root.dataset.state = state;
    panel.root.setAttribute("aria-busy", state === "loading" ? "true" : "false");
  };
  const stamp = (panel, knownAt, stale) => {
    const time = panel.root.querySelector("[data-time]");
    if (!time) return;
    panel.root.toggleAttribute("data-stale", stale);
    if (knownAt) { time.dateTime = new Date(knownAt).toISOString(); time.dataset.known = knownAt; time.title = stampText(knownAt); }
    const shown = time.dataset.known ? clockText(Number(time.dataset.known)) : "";
    time.textContent = stale ? `${texts["state.stale"]} · ${shown}` : shown;
  };
  const place = (panel, data) => {
    const empty = panel.empty?.(data) || panel.draw(panel, data) === "empty";
    show(panel, empty ? "empty" : "full");
    if (!empty) charts.get(panel.name)?.resize();
    panel.shown = true;
    stamp(panel, data.known_at, false);
  };
  const read = async (panel) => {
    clearTimeout(panel.timer);
    panel.timer = 0;
    if (panel.busy) { panel.again = true; return; }
    panel.busy = true;
    panel.last = Date.now();
    try {
      const parameters = { lang: english ? "en" : "zh" };
      if (panel.name === "load") parameters.meter = document.getElementById("meter").value;
      const response = await fetch(address(`/screen/${panel.name}`, parameters), { headers: { Accept: "application/json" }, signal: AbortSignal.timeout ? AbortSignal.timeout(15000) : undefined });
      if (!response.ok) throw new Error(`status ${response.status}`);
      const data = await response.json();
      place(panel, data);
    } catch {
      /* What was shown stays, marked as not updated; a panel that never had anything says that it failed. */
      if (panel.shown && panel.name !== "overview" && panel.root.dataset.state === "full") stamp(panel, null, true);
      else if (!panel.shown || panel.root.dataset.state !== "full") show(panel, "failed");
    } finally {
      panel.busy = false;
      panel.root.dataset.reads = String(Number(panel.root.dataset.reads ?? 0) + 1);
      if (panel.again) { panel.again = false; soon(panel); }
      else if (!panel.timer) panel.timer = setTimeout(() => { panel.timer = 0; touch(panel); }, REFRESH_MS);
    }
  };
  const soon = (panel) => {
    const wait = Math.max(0, panel.last + panel.every - Date.now());
    if (panel.due && panel.timer) return;
    clearTimeout(panel.timer);
    panel.due = true;
    panel.timer = setTimeout(() => { panel.due = false; panel.timer = 0; read(panel); }, wait);
  };
  const touch = (panel) => { if (document.hidden) panel.missed = true; else soon(panel); };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) for (const panel of panels) if (panel.missed) { panel.missed = false; soon(panel); }
  });
  for (const panel of panels) for (const button of panel.root.querySelectorAll("[data-retry]")) {
    button.addEventListener("click", () => { show(panel, "loading"); panel.last = 0; read(panel); });
  }
  document.getElementById("meter").addEventListener("change", () => { show(byName.load, "loading"); read(byName.load); });

  /* Live line. A frame is a whole picture in rows of the named queries. The two that change with every truck are drawn from
     it; where another member differs from the last frame's, the panels made from it are read again. */
  const live = document.getElementById("live");
  const say = (state) => { live.dataset.live = state; live.lastElementChild.textContent = texts[`live.${state}`]; };
  const FED = { flows_today: ["hours", "districts"], stocks: ["stocks"], warnings: ["warnings"], loads: ["load"] };
  const last = {};
  const differs = (name, member) => {
    const digest = JSON.stringify(member);
    if (last[name] === digest) return false;
    last[name] = digest;
    return true;
  };
  const integer = (value) => (value === null || value === undefined ? null : Number(value));
  const take = (frame) => {
    const now = Date.parse(frame.at);
    if (frame.weighings && labels && differs("weighings", frame.weighings)) {
      const rows = frame.weighings.slice(0, ROWS).map((row) => ({
        ...row, id: `${row.source} ${row.id}`, time: Date.parse(row.time), known_at: Date.parse(row.known_at), mass_kg: integer(row.mass_kg),
        site_name: labels.sites[row.site] ?? row.site, commodity_name: labels.commodity[row.commodity] ?? row.commodity,
      }));
      place(byName.weighings, { rows, now, known_at: Math.max(0, ...rows.map((r) => r.known_at)) || null });
    }
    if (frame.overview && differs("overview", frame.overview)) touch(byName.overview);
    for (const [name, fed] of Object.entries(FED)) {
      if (frame[name] && differs(name, frame[name])) for (const panel of fed) touch(byName[panel]);
    }
    for (const name of frame.failed ?? []) for (const panel of FED[name] ?? [name]) if (byName[panel]?.shown) stamp(byName[panel], null, true);
  };
  let labels = null;
  const readLabels = async () => {
    try {
      const response = await fetch(address("/screen/labels", { lang: english ? "en" : "zh" }), { headers: { Accept: "application/json" } });
      if (response.ok) labels = await response.json();
    } catch { /* asked for again below */ }
    setTimeout(readLabels, labels ? 60000 : 3000);
  };
  let waits = 0, everOpen = false;
  const connect = () => {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/live`);
    let opened = 0;
    let heard = Date.now();
    const watch = setInterval(() => { if (Date.now() - heard > SILENT_MS) { socket.close(); clearInterval(watch); lost(); } }, 5000);
    let done = false;
    socket.addEventListener("open", () => { heard = Date.now(); opened = Date.now(); waits = 0; everOpen = true; say("on"); });
    socket.addEventListener("message", (event) => {
      heard = Date.now();
      let frame;
      try { frame = JSON.parse(event.data); } catch { return; }
      take(frame);
    });
    /* A dead peer never answers the closing handshake, so the end is taken from the timer or the event, whichever is first. */
    const lost = () => {
      if (done) return;
      done = true;
      clearInterval(watch);
      /* A reader of some enterprises has no live line (it shows the whole city); then the timer serves. */
      say(!everOpen && waits > 1 && panels.some((panel) => panel.shown) ? "polling" : "off");
      /* 1, 2, 4 … 30 s, spread a little so that a hundred screens do not come back in the same instant. */
      const wait = Math.min(30000, 1000 * 2 ** waits++) * (0.75 + Math.random() / 2);
      setTimeout(connect, opened && Date.now() - opened > 10000 ? 500 : wait);
    };
    socket.addEventListener("close", lost);
  };

  const clock = document.getElementById("clock");
  const tick = () => {
    const now = Date.now();
    clock.textContent = clockText(now);
    clock.dateTime = new Date(now).toISOString();
    clock.title = stampText(now);
    setTimeout(tick, 1000 - (now % 1000));
  };
  tick();
  const full = document.getElementById("full");
  if (document.fullscreenEnabled) {
    full.hidden = false;
    full.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()));
  }
  say("connecting");
  new ResizeObserver(() => fit(byName.weighings.rows, byName.weighings.content)).observe(byName.weighings.content);
  readLabels();
  for (const panel of panels) read(panel);
  connect();
})();
