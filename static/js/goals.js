/* The goals of a board as a tree: renewed as what is done for them goes on. */
import {renewed} from "./renewed.js";

renewed({concerns: ({kind, data}) => /^(goal|criterion)\./.test(kind) || (/^(card|attempt)\./.test(kind) && Boolean(data?.goal)) || kind === "card.deleted"});
