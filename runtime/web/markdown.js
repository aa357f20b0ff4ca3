/**
 * The little Markdown that agents write — paragraphs, headings, lists, fenced code, `code`, **strong**, links — as nodes.
 * Text becomes text nodes only, so nothing in it can be markup; what is not understood is shown as it is.
 */

const FENCE = /^\s*```/;
const HEADING = /^#{1,6}\s+(.*)$/;
const ITEM = /^\s*(?:[-*•]|(\d{1,9})[.)])\s+(.*)$/;
const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\[([^\]\n]{1,300})\]\((https?:\/\/[^\s)]{1,2000})\)/g;

function element(name, ...children) {
  const node = document.createElement(name);
  node.append(...children);
  return node;
}

/** @param {string} text @returns {(Node|string)[]} */
function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    nodes.push(text.slice(end, match.index));
    end = match.index + match[0].length;
    const [, code, strong, label, url] = match;
    if (code) nodes.push(element("code", code));
    else if (strong) nodes.push(element("strong", strong));
    else nodes.push(Object.assign(element("a", label), { href: url, rel: "noopener noreferrer", target: "_blank" }));
  }
  nodes.push(text.slice(end));
  return nodes.filter((node) => node !== "");
}

/** @param {string} text @returns {Node[]} */
export function markdown(text) {
  const blocks = [];
  let paragraph = [];
  let list = null;
  let code = null;
  const close = () => {
    if (paragraph.length > 0) blocks.push(element("p", ...inline(paragraph.join("\n"))));
    [paragraph, list] = [[], null];
  };
  for (const line of text.split(/\r?\n/)) {
    const item = ITEM.exec(line);
    const heading = HEADING.exec(line);
    if (FENCE.test(line) && code) {
      blocks.push(block(code));
      code = null;
    } else if (FENCE.test(line)) {
      close();
      code = [];
    } else if (code) {
      code.push(line);
    } else if (item) {
      const name = item[1] ? "ol" : "ul";
      if (list?.localName !== name) {
        close();
        list = element(name);
        if (item[1]) list.start = Number(item[1]);
        blocks.push(list);
      }
      list.append(element("li", ...inline(item[2])));
    } else if (heading) {
      close();
      blocks.push(element("h3", ...inline(heading[1])));
    } else if (line.trim() === "") {
      close();
    } else {
      if (list) close();
      paragraph.push(line);
    }
  }
  if (code) blocks.push(block(code));
  close();
  return blocks;
}

/** Code may be wider than the page: it scrolls, by keyboard too. */
function block(lines) {
  return Object.assign(element("pre", element("code", lines.join("\n"))), { tabIndex: 0 });
}
