/* What is done about a discovery where it is shown: a card is made of it, it is tried again, it is
   made one with another, or settled. */
import {call} from "./api.js";
import {gettext} from "./words.js";

export const ABOUT = "[data-card-of], [data-revive], [data-merge], [data-resolve]";

/* Does what the form is for and gives the sentence that says so. */
export async function settled({dataset, elements}, submitter) {
  if (dataset.cardOf) {
    const made = await call("POST", `/discoveries/${dataset.cardOf}/card`, {});
    return gettext("{key} made.", {key: made.key});
  }
  if (dataset.revive) {
    await call("POST", `/discoveries/${dataset.revive}/revive`, {because: elements.because.value});
    return gettext("Saved.");
  }
  if (dataset.merge) {
    const kept = await call("POST", `/discoveries/${dataset.merge}/merge`, {into: elements.into.value});
    return gettext("Merged: “{title}” stands for both.", kept);
  }
  const wont = submitter?.name === "wont_do" ? {wont_do: true} : {};
  await call("POST", `/discoveries/${dataset.resolve}/resolve`, {resolution: elements.resolution.value, ...wont});
  return gettext("Resolved.");
}
