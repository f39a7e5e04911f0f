/* What follows the board's events. While something is held, nothing is handed over: see live.js. */
export const feed = {hold() {}, release() {}};
