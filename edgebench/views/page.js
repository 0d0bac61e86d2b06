(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const find = (id) => document.getElementById(id);

  // --- the table: sorts within each kind of work, filters across all ---------------------------
  // Looked up each time: where a run goes on, the table may come later than this script.
  const heads = () => [...document.querySelectorAll("#results thead th")];
  const kinds = () => [...document.querySelectorAll("#results tbody.rows")];
  let sorted = null;

  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const raw = cell.dataset.value;
    if (raw === undefined) return cell.textContent.trim().toLowerCase();
    return raw === "" ? null : Number(raw);
  };
  const compare = (a, b, direction) => {
    if (a === null || b === null) return (a === null) - (b === null); // what wasn't measured comes last
    if (typeof a === "number" && typeof b === "number") return direction * (a - b);
    return direction * String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const sort = () => {
    if (!sorted) return;
    const [column, order] = sorted;
    heads().forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    });
    const direction = order === "ascending" ? 1 : -1;
    for (const body of kinds()) {
      const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
      rows.sort((a, b) => compare(a[0], b[0], direction));
      body.append(...rows.map((pair) => pair[1]));
    }
  };
  document.addEventListener("click", (event) => {
    const head = event.target.closest("#results thead th");
    if (!head || !event.target.closest("button")) return;
    const first = head.dataset.first || "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    sorted = [head.cellIndex, head.getAttribute("aria-sort") === first ? second : first];
    sort();
  });

  const filter = () => {
    const form = find("controls");
    if (!form) return;
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const picks = [...form.querySelectorAll("select")].map((select) => [select.name, select.value]);
    const sure = form.elements.sure.checked;
    const earlier = form.elements.earlier ? form.elements.earlier.checked : false;
    let shown = 0;
    let all = 0;
    for (const body of kinds()) {
      let here = 0;
      for (const row of body.rows) {
        const fits =
          (earlier || !row.classList.contains("earlier")) &&
          !(sure && row.dataset.doubted) &&
          picks.every(([name, value]) => !value || row.dataset[name] === value) &&
          words.every((word) => row.dataset.words.includes(word));
        row.hidden = !fits;
        here += fits;
        all += 1;
      }
      body.hidden = !here;
      body.previousElementSibling.hidden = !here;
      shown += here;
    }
    find("count").textContent = `${shown} of ${all} records shown`;
  };
  const inForm = (action) => (event) => {
    if (event.target.closest("#controls")) action(event);
  };
  document.addEventListener("input", inForm(filter));
  document.addEventListener("reset", inForm(() => setTimeout(filter)));
  document.addEventListener("submit", inForm((event) => event.preventDefault()));
  filter();

  // --- each figure and row leads to its record -------------------------------------------------
  const reveal = () => {
    const record = find(decodeURIComponent(location.hash.slice(1)));
    if (!record) return;
    if (record.tagName === "DETAILS") record.open = true;
    record.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();

  // --- on paper nothing can be opened: the whole answer is printed --------------------------------
  const closed = [];
  addEventListener("beforeprint", () => {
    for (const more of document.querySelectorAll(".answer details:not([open])")) closed.push(more);
    for (const more of closed) more.open = true;
  });
  addEventListener("afterprint", () => {
    for (const more of closed.splice(0)) more.open = false;
  });

  // --- figures, one after the other so that the page stays awake -------------------------------
  const formsOf = (page) => {
    const data = page.getElementById("specs");
    return data ? JSON.parse(data.textContent) : { specs: {}, config: {} };
  };
  let forms = formsOf(document);
  const drawn = new WeakMap(); // plot → its view, and the form it shows
  const formOf = (plot) => JSON.stringify(forms.specs[plot.dataset.spec]);
  const options = {
    ast: true, // expressions are interpreted: the page forbids eval
    renderer: "svg",
    actions: false,
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true, theme: "page" },
    loader: { load: () => Promise.reject(new Error("this page loads nothing")) },
  };
  const draw = async (plot) => {
    const { specs, config } = forms;
    const form = formOf(plot);
    const spec = specs[plot.dataset.spec];
    const letters = Math.min((spec.usermeta || { longest: 0 }).longest, 42);
    const columns = Math.max(1, Math.floor(plot.clientWidth / (7 * letters + 40)));
    const themed = { ...config, legend: { ...config.legend, columns } };
    const { view } = await vegaEmbed(plot, { ...spec, config: themed }, options);
    drawn.set(plot, { view, form });
    view.addEventListener("click", (event, item) => {
      const id = item && item.datum && item.datum.record;
      if (id) location.hash = find(`r-${id}`) ? `r-${id}` : `t-${id}`;
    });
  };
  const redraw = async (plot) => {
    // Drawn unseen and then put in its place: nothing flickers and nothing jumps.
    const next = plot.cloneNode(false);
    next.classList.add("unseen");
    plot.after(next);
    await draw(next);
    plot.replaceWith(next);
    next.classList.remove("unseen");
    drawn.get(plot).view.finalize();
  };
  const pause = () => new Promise((resolve) => setTimeout(resolve));
  const drawAll = async () => {
    delete root.dataset.figures;
    for (const plot of document.querySelectorAll(".plot")) {
      await pause();
      if (!drawn.has(plot)) await draw(plot);
      else if (drawn.get(plot).form !== formOf(plot)) await redraw(plot);
    }
    root.dataset.figures = "drawn";
  };
  const first = new Promise((resolve) => {
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(drawAll())));
  });

  // --- served while a run goes on: what is drawn anew goes into this page, which stays as it is ---
  const become = (old, fresh) => {
    if (old.matches(".plot")) {
      old.dataset.spec = fresh.dataset.spec;
      return;
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      // What the reader opened stays open.
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    if (old.matches("#live, #count")) return;
    const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const alike = at && !at.id && at.nodeName === child.nodeName ? at : null;
      const mine = child.id ? known.get(child.id) : alike;
      if (!mine) {
        old.insertBefore(child, at);
        continue;
      }
      if (mine === at) at = at.nextSibling;
      else old.insertBefore(mine, at);
      if (mine.nodeType === Node.ELEMENT_NODE) become(mine, child);
      else if (mine.nodeValue !== child.nodeValue) mine.nodeValue = child.nodeValue;
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };
  const chosen = () => {
    const form = find("controls");
    return form ? [...form.elements].filter((field) => field.name).map((field) => [field.name, field.value]) : [];
  };
  const take = async () => {
    const answer = await fetch("", { cache: "no-store" });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text);
    await first;
    const page = new DOMParser().parseFromString(text, "text/html");
    const focused = document.activeElement;
    const fields = chosen();
    forms = formsOf(page);
    document.title = page.title;
    for (const part of ["header", "main", "footer"]) become(document.querySelector(part), page.querySelector(part));
    for (const [name, value] of fields) {
      const field = find("controls") && find("controls").elements[name];
      if (field && field.type !== "checkbox") field.value = value; // its list may have grown
    }
    sort();
    filter();
    if (focused && focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
    await drawAll();
  };
  const live = find("live");
  const ask = async () => {
    let wait = 1500;
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if ((await answer.text()) !== live.dataset.version) {
        const began = performance.now();
        await take();
        wait = Math.max(wait, 4 * (performance.now() - began)); // a page must not cost the run it shows
        live.textContent = `Live: new results appear by themselves, the last at ${new Date().toLocaleTimeString()}.`;
      } else if (!live.textContent) live.textContent = "Live: new results appear by themselves.";
    } catch (error) {
      const gone = error instanceof TypeError; // fetch throws it if there is no response
      live.textContent = gone ? "The server has stopped; this is its last state." : `Update failed: ${error.message}`;
    }
    setTimeout(ask, wait);
  };
  if (live) ask();
})();
