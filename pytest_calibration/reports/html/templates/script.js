
"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);

  function create(name, text, attributes = {}) {
    const element = document.createElement(name);
    element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  // --- light or dark: nothing is stored, so it holds as long as the page is open ---
  function offerTheme() {
    const root = document.documentElement;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const button = create("button", "", { type: "button" });
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
    const setLabel = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      setLabel();
    });
    dark.addEventListener("change", setLabel);
    setLabel();
    one("#theme").append(button);
  }

  // --- sorting ---
  function offerSorting(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) return;
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const kind = head.dataset.sort;
      if (!kind) return;
      const button = create("button", head.textContent, { type: "button" });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const current = head.getAttribute("aria-sort");
        const next = !current ? "ascending" : current === "ascending" ? "descending" : null;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        const rows = next ? sorted(original, column, kind, next) : original;
        body.append(...rows);
      });
    });
  }

  function sorted(rows, column, kind, order) {
    const sign = order === "ascending" ? 1 : -1;
    const keyed = rows.map((row) => {
      const cell = row.cells[column];
      const key = cell.dataset.key ?? (kind === "number" ? "" : cell.textContent);
      return { row, key: kind === "number" && key !== "" ? Number(key) : key };
    });
    keyed.sort((a, b) => {
      // A missing value comes last in both orders.
      if (a.key === "" || b.key === "") return (a.key === "") - (b.key === "");
      if (kind === "number") return sign * (a.key - b.key);
      return sign * a.key.localeCompare(b.key, undefined, { numeric: true });
    });
    return keyed.map(({ row }) => row);
  }

  // --- filters ---
  function offerFilters() {
    const form = one(".filters");
    const rows = all("#all tbody tr");
    if (!form || rows.length < 2) return;
    const sections = new Map(all("article[data-verdict]").map((a) => [a.dataset.verdict, a]));
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const find = one("#find");
    const choices = all("select", form);
    const shown = one("#shown");

    function apply() {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const row of rows) {
        const matches = choices.every(
          (choice) => choice.value === "" || row.dataset[choice.dataset.filter] === choice.value,
        ) && words.every((word) => texts.get(row).includes(word));
        row.hidden = !matches;
        sections.get(row.dataset.verdict).hidden = !matches;
        count += matches;
      }
      shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
    }

    function clear() {
      find.value = "";
      for (const choice of choices) choice.value = "";
      apply();
    }

    find.addEventListener("input", apply);
    for (const choice of choices) choice.addEventListener("change", apply);
    one("#clear").addEventListener("click", () => { clear(); find.focus(); });
    // A link to a section that the filters hide clears them.
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.('a[href^="#v"]');
      if (link && document.getElementById(link.hash.slice(1))?.hidden) clear();
    });
    form.hidden = false;
    // A browser may have kept what was typed before a reload.
    apply();
  }

  // --- verdicts that passed are folded until a link leads there ---
  function foldPassed() {
    for (const details of all("details[data-fold]")) details.open = false;
    const unfold = () => {
      const target = document.getElementById(location.hash.slice(1));
      const details = target && one("details.figures", target);
      if (details) {
        details.open = true;
        target.scrollIntoView();
      }
    };
    addEventListener("hashchange", unfold);
    if (location.hash) unfold();
  }

  // --- copying; where that is not allowed, selecting ---
  function offerCopying(command) {
    const button = create("button", "Copy", { type: "button", "aria-describedby": command.id });
    const status = create("span", "", { role: "status" });
    command.after(button, status);
    button.addEventListener("click", async () => {
      const range = document.createRange();
      range.selectNodeContents(command);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      try {
        await navigator.clipboard.writeText(command.textContent);
        status.textContent = "Copied.";
      } catch {
        status.textContent = document.execCommand("copy")
          ? "Copied."
          : "Selected: copy it with Ctrl+C or ⌘C.";
      }
    });
  }

  // --- the keyboard reaches a frame that scrolls ---
  function keepFramesReachable() {
    const update = (frame) => {
      if (frame.scrollWidth > frame.clientWidth + 1) frame.tabIndex = 0;
      else frame.removeAttribute("tabindex");
    };
    const observer = new ResizeObserver((entries) => entries.forEach(({ target }) => update(target)));
    for (const frame of all(".scroll")) observer.observe(frame);
  }

  // --- everything is open on paper ---
  function openForPrint() {
    let closed = [];
    addEventListener("beforeprint", () => {
      closed = all("details:not([open])");
      for (const details of closed) details.open = true;
    });
    addEventListener("afterprint", () => {
      for (const details of closed) details.open = false;
    });
  }

  offerTheme();
  all("table[data-sortable]").forEach(offerSorting);
  offerFilters();
  foldPassed();
  all(".command").forEach(offerCopying);
  keepFramesReachable();
  openForPrint();
})();
