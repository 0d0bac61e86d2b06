(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const table = document.getElementById("results");
  const remembered = `edgebench:${location.pathname}`;

  // --- the table: sorts within each kind of work, filters across all ---------------------------
  const kinds = table ? [...table.tBodies].filter((body) => body.classList.contains("rows")) : [];
  const heads = table ? [...table.tHead.rows[0].cells] : [];
  const form = document.getElementById("controls");

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
  const sortBy = (column, order) => {
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    });
    const direction = order === "ascending" ? 1 : -1;
    for (const body of kinds) {
      const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
      rows.sort((a, b) => compare(a[0], b[0], direction));
      body.append(...rows.map((pair) => pair[1]));
    }
    keep();
  };
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const first = head.dataset.first || "ascending";
      const now = head.getAttribute("aria-sort");
      const second = first === "ascending" ? "descending" : "ascending";
      sortBy(column, now === first ? second : first);
    });
  });

  const filter = () => {
    if (!form) return;
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const picks = [...form.querySelectorAll("select")].map((select) => [select.name, select.value]);
    const sure = form.elements.sure.checked;
    const earlier = form.elements.earlier ? form.elements.earlier.checked : false;
    let shown = 0;
    let all = 0;
    for (const body of kinds) {
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
    document.getElementById("count").textContent = `${shown} of ${all} records shown`;
    keep();
  };

  const keep = () => {
    const state = { sort: null, form: {} };
    heads.forEach((head, index) => {
      if (head.hasAttribute("aria-sort")) state.sort = [index, head.getAttribute("aria-sort")];
    });
    if (form) {
      for (const field of form.elements) {
        if (field.name) state.form[field.name] = field.type === "checkbox" ? field.checked : field.value;
      }
    }
    try {
      sessionStorage.setItem(remembered, JSON.stringify(state));
    } catch {
      // A page opened where nothing may be stored simply forgets.
    }
  };
  const restore = () => {
    let state = null;
    try {
      state = JSON.parse(sessionStorage.getItem(remembered));
    } catch {
      return;
    }
    if (!state) return;
    for (const [name, value] of Object.entries(state.form)) {
      const field = form && form.elements[name];
      if (!field) continue;
      if (field.type === "checkbox") field.checked = value;
      else field.value = value;
    }
    if (state.sort) sortBy(...state.sort);
  };
  if (form) {
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    if (document.getElementById("live")) restore();
    filter();
  }

  // --- each figure and row leads to its record -------------------------------------------------
  const reveal = () => {
    const record = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!record) return;
    if (record.tagName === "DETAILS") record.open = true;
    record.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();

  // --- figures, one after the other so that the page stays awake -------------------------------
  const data = document.getElementById("specs");
  const plots = [...document.querySelectorAll(".plot")];
  const { specs, config } = data ? JSON.parse(data.textContent) : { specs: {}, config: {} };
  const options = {
    ast: true, // expressions are interpreted: the page forbids eval
    renderer: "svg",
    actions: false,
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true, theme: "page" },
    loader: { load: () => Promise.reject(new Error("this page loads nothing")) },
  };
  const draw = async (plot) => {
    const spec = specs[plot.dataset.spec];
    const columns = Math.max(1, Math.floor(plot.clientWidth / 210));
    const themed = { ...config, legend: { ...config.legend, columns } };
    const { view } = await vegaEmbed(plot, { ...spec, config: themed }, options);
    view.addEventListener("click", (event, item) => {
      const id = item && item.datum && item.datum.record;
      if (id) location.hash = document.getElementById(`r-${id}`) ? `r-${id}` : `t-${id}`;
    });
  };
  const pause = () => new Promise((resolve) => setTimeout(resolve));
  const drawAll = async () => {
    for (const plot of plots) {
      await pause();
      await draw(plot);
    }
    root.dataset.figures = "drawn";
  };
  requestAnimationFrame(() => requestAnimationFrame(drawAll));

  // --- served while a run goes on: ask for the data's version, load again when it changes -------
  const live = document.getElementById("live");
  if (live) {
    const ask = async () => {
      try {
        const answer = await fetch("version", { cache: "no-store" });
        const version = await answer.text();
        if (answer.ok && version !== live.dataset.version) return location.reload();
        live.textContent = "Live: new results appear by themselves.";
      } catch {
        live.textContent = "The server has ended: this is the last state.";
      }
      setTimeout(ask, 1500);
    };
    ask();
  }
})();
