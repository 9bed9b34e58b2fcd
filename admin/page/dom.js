// Elements, made so that what callers and configurations say stays text: nothing
// on this page is ever parsed as HTML.

const svgSpace = 'http://www.w3.org/2000/svg';

// el makes an element with attributes and children; strings become text.
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(svgSpace, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const byID = (id) => document.getElementById(id);

// setText touches the page only if something changes: a reader who has selected
// it, or hears it, isn't disturbed each second.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Signs are drawn, since not every font has them.
const signs = {
  dot: 'M6 1.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 1 0 0-9Z',
  half: 'M6 1.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 1 0 0-9ZM6 3.2v5.6a2.8 2.8 0 1 1 0-5.6Z',
  ring: 'M6 1.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 1 0 0-9ZM6 3.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 1 1 0-5.6Z',
  cross: 'M2.6 1.2 6 4.6 9.4 1.2 10.8 2.6 7.4 6 10.8 9.4 9.4 10.8 6 7.4 2.6 10.8 1.2 9.4 4.6 6 1.2 2.6Z',
  triangle: 'M6 1.2 11.4 10.8H.6Z',
  tick: 'M4.6 10.1.8 6.3 2.2 4.9 4.6 7.3 9.8 2.1 11.2 3.5Z',
  dash: 'M2 5.1h8v1.8H2Z',
};

// setBadge shows a state by a sign, a word and a colour, so that any one will do.
export function setBadge(node, sign, word, tone) {
  setClass(node, `badge ${tone}`);
  if (node.childElementCount === 0) {
    node.replaceChildren(svg('svg', {viewBox: '0 0 12 12', 'aria-hidden': 'true'}, svg('path')), el('span'));
  }
  setAttribute(node.firstChild.firstChild, 'd', signs[sign]);
  setText(node.lastChild, word);
}

// say shows text in an element that is there only while it has something to say.
export function say(node, text) {
  setText(node, text);
  node.hidden = text === '';
}

// arrange makes nodes the children of parent, in that order, and moves no node
// that is in its place already: one that moves loses the focus.
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) {
    if (!wanted.has(child)) child.remove();
  }
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
}
