// Makes elements. Texts become text nodes only, so nothing that a task says is ever markup.

/** An element. `given`: className, on (listeners), data (data-*), aria (aria-*), css (custom
 * properties), and attributes or properties by name; children are nodes or texts. */
export function el(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  fill(node, given);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element. */
export function svg(tag, given = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  const { on = {}, ...attributes } = given;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  node.append(...children.flat().filter(Boolean));
  return node;
}

/** Replaces what is in a node. */
export function replace(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

function fill(node, { on = {}, data = {}, aria = {}, css = {}, ...rest }) {
  for (const [event, listener] of Object.entries(on)) node.addEventListener(event, listener);
  for (const [name, value] of Object.entries(data)) node.dataset[name] = value;
  for (const [name, value] of Object.entries(aria)) node.setAttribute(`aria-${name}`, value);
  for (const [name, value] of Object.entries(css)) node.style.setProperty(name, value);
  for (const [name, value] of Object.entries(rest)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
}
