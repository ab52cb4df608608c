// What the tests look for in the page. Each answers with what it found: lists of faults are empty where all is well.

const all = (selector) => [...document.querySelectorAll(selector)];

/** The rows of the table whose caption begins so. */
function rows(caption) {
  const found = all("table").find((one) => one.caption.textContent.startsWith(caption));
  const text = (cell) => [...cell.childNodes].map((node) => node.textContent).join(" ").trim();
  return found && [...found.tBodies[0].rows].map((row) => [...row.cells].map(text));
}

/** What stands large on the page, by its name. */
function figures() {
  const lines = (value) => [...value.childNodes].filter((node) => node.nodeName !== "SMALL").map((node) => node.textContent);
  return all(".figure").map((one) => [one.querySelector("dt").textContent, lines(one.querySelector("dd")).join(" + ")]);
}

/** How many charts have at least three colours on them. */
function drawn() {
  return all("#main canvas").filter((one) => {
    const pixels = one.getContext("2d").getImageData(0, 0, one.width, one.height).data;
    const colours = new Set();
    for (let at = 0; at < pixels.length; at += 4) {
      if (pixels[at + 3] === 255) colours.add((pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2]);
    }
    return colours.size >= 3;
  }).length;
}

/** Texts whose contrast is under what WCAG 2.2 asks for at level AA: 4.5 to 1, and 3 to 1 where they are large. */
function faint() {
  const parse = (text) => {
    const [r, g, b, a] = text.match(/[\d.]+/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [r * scale, g * scale, b * scale, a ?? 1];
  };
  const over = (top, under) => top.slice(0, 3).map((part, place) => part * top[3] + under[place] * (1 - top[3]));
  const light = (rgb) => {
    const [r, g, b] = rgb.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, behind(element.parentElement));
  };
  const seen = (element) => element.checkVisibility() && !element.closest(".unseen, .skip, .u-axis, noscript, script, option");
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const { textContent: text, parentElement: element } = walker.currentNode;
    if (!text.trim() || !seen(element)) continue;
    const style = getComputedStyle(element);
    const back = behind(element);
    const both = [light(over(parse(style.color), back)), light(back)].sort((a, b) => b - a);
    const ratio = (both[0] + 0.05) / (both[1] + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) found.add(`${text.trim()}: ${ratio.toFixed(2)}`);
  }
  return [...found];
}

/** What reaches beyond the window, but for what scrolls in itself. */
function beyond() {
  const found = all("main *, .top *, form *")
    .filter((one) => !one.closest(".scroll, .skip, .unseen, .u-wrap") && one.checkVisibility())
    .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(root);
  return found.map((one) => one.outerHTML.slice(0, 80));
}

/** What is pressed and is too low for a finger. */
function small() {
  return all("button, nav a, select").filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 32).map((one) => one.outerHTML.slice(0, 80));
}

/** What somebody who does not see the page would miss. */
function unsaid() {
  const faults = [];
  for (const one of all("table")) {
    if (!one.caption?.textContent) faults.push("a table without a caption");
    if ([...one.tBodies[0].rows].some((row) => row.cells[0].scope !== "row")) faults.push(`a row without a header: ${one.caption.textContent}`);
    if ([...one.tHead.rows[0].cells].some((cell) => cell.scope !== "col")) faults.push(`a column without a header: ${one.caption.textContent}`);
  }
  for (const one of all("select, input")) if (!one.labels?.length) faults.push(`no label: ${one.id}`);
  for (const one of all("[role=region], [role=group], nav, form")) if (!one.getAttribute("aria-label")) faults.push(`no name: ${one.className}`);
  const ids = all("[id]").map((one) => one.id);
  if (new Set(ids).size !== ids.length) faults.push("an id twice");
  const levels = all("h1, h2, h3, h4").map((one) => Number(one.tagName[1]));
  if (levels[0] !== 1 || levels.some((level, place) => place && level > levels[place - 1] + 1)) faults.push(`headings: ${levels}`);
  return faults;
}
