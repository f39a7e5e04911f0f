/* The board in the page: its columns and cards, and moving a node about. */
export const board = document.getElementById("board");
export const key = board.dataset.board;
export const mayWrite = !!board.dataset.mayWrite;
export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const cardOf = id => document.getElementById(`card-${id}`);
export const columnOf = node => node.closest(".col");
export const cardsIn = column => $$("ol > .card", column);
export const listOf = column => $("ol", column);
export const tabs = new Map($$(".coltabs a").map(tab => [tab.getAttribute("href").slice(1), tab]));
export const endOf = column => $(".empty-col", column);
export const query = () => board.dataset.query ? `&${board.dataset.query}` : "";

/* Moves a node without losing focus, selection or a running animation, where browsers can. */
export function put(node, list, before) {
  if (node.isConnected && list.isConnected && list.moveBefore) list.moveBefore(node, before);
  else list.insertBefore(node, before);
}
export const narrow = matchMedia("(max-width: 760px)");
