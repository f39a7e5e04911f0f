/* The board in the page: its columns, lanes and cards, and moving a node about. */
export const board = document.getElementById("board");
export const key = board.dataset.board;
export const mayWrite = !!board.dataset.mayWrite;
export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const cardOf = id => document.getElementById(`card-${id}`);
export const columnOf = node => node.closest(".col");
export const cardsIn = column => $$("ol > .card", column);
export const listOf = column => $("ol", column);

/* Where in a column the card lands that is let go at height `y`: {column, card, edge} beside another,
   which between two is the lower one; {column} at its end, and over its head too; null over itself. */
export function placeIn(column, y, carried) {
  const under = y < listOf(column).getBoundingClientRect().top ? null
    : cardsIn(column).map(card => ({card, box: card.getBoundingClientRect()})).find(({box}) => y <= box.bottom);
  if (!under) return {column};
  const {card, box} = under;
  return card === carried ? null : {column, card, edge: y < box.top + box.height / 2 ? "top" : "bottom"};
}
export const tabs = new Map($$(".coltabs a").map(tab => [tab.getAttribute("href").slice(1), tab]));
// What was read later stands below the words for an empty column: the row is the end of both.
export const endOf = column => $(".more-row", column) ?? $(".empty-col", column);
export const query = () => board.dataset.query ? `&${board.dataset.query}` : "";

/* With lanes a column is cut into cells, one in each lane; a cell is a ``.col`` like a column. */
export const laned = () => board.dataset.lanes || "";
export const cell = (column, lane) => document.getElementById(laned() && lane != null ? `col-${column}--${lane}` : `col-${column}`);
export const cellsOf = column => $$(`.col[data-column="${column}"]`, board);
/* The columns beside this one: with lanes, the cells of its lane. */
export const beside = column => $$(".col", board).filter(other => other.dataset.lane === column.dataset.lane);

/* What the cards are sorted by when it isn't the order that people give them. */
export const sorted = () => ["", "rank", "manual"].includes(board.dataset.sort ?? "") ? "" : board.dataset.sort;

/* Moves a node without losing focus, selection or a running animation, where browsers can. */
export function put(node, list, before) {
  if (node.isConnected && list.isConnected && list.moveBefore) list.moveBefore(node, before);
  else list.insertBefore(node, before);
}
export const narrow = matchMedia("(max-width: 760px)");

/* An element from what it is: make("button", {className: "btn"}, "Move", …). */
export function make(tag, fields = {}, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...inside);
  return node;
}

const sprite = $("svg.i use")?.getAttribute("href").split("#")[0] ?? "/static/icons.svg";
export function icon(name, size = "s") {
  const holder = document.createElement("template");
  holder.innerHTML = `<svg class="i ${size}" viewBox="0 0 16 16" aria-hidden="true"><use href="${sprite}#i-${name}"/></svg>`;
  return holder.content.firstElementChild;
}
