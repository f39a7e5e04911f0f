/* What follows the board's events, and the number of the last one that came. While something is
   held, nothing is handed over: see live.js. */
export const feed = {at() {}, hold() {}, release() {}};

/* Asks for an answer as of the last event that came, or later: all who look can have the same. */
export const asOf = () => feed.at() === undefined ? "" : `at=${feed.at()}`;
