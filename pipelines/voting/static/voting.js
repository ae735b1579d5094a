"use strict";

// One comparison at a time: the server says what is shown, a press sends a choice and brings the next one.

const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" };
const NAME = "amalgam-rater";
const get = (id) => document.getElementById(id);
const choices = [...document.querySelectorAll("[data-choice]")];

let rater = null;
let shown = null;
let busy = true;

async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer. Nothing is lost: start it again, then press again.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(content.message || `The server refused (${answer.status}).`);
  return content;
}

function view(name) {
  for (const id of ["start", "booth", "end"]) get(id).hidden = id !== name;
}

function hold(on) {
  busy = on;
  // not `disabled`, which would take the focus away from the button that was pressed
  for (const button of choices) button.setAttribute("aria-disabled", on);
}

/** Give the images the largest side that fits the window, a whole multiple of their pixels if there is room for it. */
function fit() {
  if (!shown?.ticket) return;
  const [booth, images, footer] = [get("booth"), get("images"), document.querySelector("footer")];
  const rows = get("reference-box").offsetTop < get("left-box").offsetTop && shown.reference ? 2 : 1;
  const taken = booth.offsetHeight + footer.offsetHeight + 40 - rows * get("left").offsetHeight;
  const room = Math.max(96, Math.min(get("left-box").clientWidth - 2, (window.innerHeight - taken) / rows));
  const whole = Math.floor(room / shown.pixels) * shown.pixels;
  images.style.setProperty("--side", `${Math.floor(whole >= 0.75 * room ? whole : room)}px`);
}

async function load(ticket, place) {
  const image = get(place);
  image.src = `/image/${ticket}/${place}`;
  try {
    await image.decode();
  } catch {
    throw new Error("An image could not be loaded. Reload the page.");
  }
}

async function render(next) {
  shown = next;
  if (!next.ticket) {
    get("end-count").textContent = next.done;
    view("end");
    get("end-title").focus();
    return;
  }
  get("who").textContent = rater;
  get("bar").max = next.total;
  get("bar").value = next.done;
  get("count").textContent = `${next.done} of ${next.total}`;
  get("question").textContent = next.question;
  get("hint").textContent = next.hint;
  get("hint").hidden = !next.hint;
  get("prompt").textContent = next.prompt ?? "";
  get("prompt-box").hidden = next.prompt === null;
  get("reference-box").hidden = !next.reference;
  get("images").classList.toggle("referring", next.reference);
  for (const button of document.querySelectorAll("#booth [data-undo]")) button.setAttribute("aria-disabled", next.done === 0);
  view("booth");
  fit();
  // nobody votes on what they have not seen
  await Promise.all(["left", "right", ...(next.reference ? ["reference"] : [])].map((place) => load(next.ticket, place)));
}

/** Send one request and show what it brings; a second press meanwhile does nothing. */
async function step(path, body, said) {
  hold(true);
  for (const id of ["problem", "end-problem"]) get(id).textContent = "";
  try {
    await render(await ask(path, { rater, ...body }));
    if (said) get("said").textContent = `${said} ${shown.done} of ${shown.total}.`;
  } catch (error) {
    for (const id of ["problem", "end-problem"]) get(id).textContent = error.message;
  }
  hold(false);
}

const vote = (choice) => !busy && shown?.ticket && step("/vote", { ticket: shown.ticket, choice }, "Saved.");
const undo = () => !busy && shown?.done > 0 && step("/undo", {}, "Taken back.");

async function welcome() {
  rater = shown = null;
  view("start");
  const about = await ask("/about");
  get("about-question").textContent = about.question;
  get("about-total").textContent = about.total;
  get("name").focus();
}

async function enter(name) {
  const first = await ask("/show", { rater: name });
  rater = name;
  localStorage.setItem(NAME, name);
  hold(true);
  await render(first);
  hold(false);
}

get("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  get("name-problem").textContent = "";
  try {
    await enter(get("name").value.trim());
  } catch (error) {
    get("name-problem").textContent = error.message;
  }
});
for (const button of choices) button.addEventListener("click", () => vote(button.dataset.choice));
for (const button of document.querySelectorAll("[data-undo]")) button.addEventListener("click", undo);
for (const button of document.querySelectorAll("[data-leave]")) {
  button.addEventListener("click", () => {
    localStorage.removeItem(NAME);
    get("name").value = "";
    welcome();
  });
}
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (get("start").hidden === false) return;
  if (event.key in KEYS) {
    event.preventDefault();
    if (!get("booth").hidden) vote(KEYS[event.key]);
  } else if (event.key === "u" || event.key === "U") undo();
});
window.addEventListener("resize", fit);

const known = localStorage.getItem(NAME);
(known ? enter(known) : welcome()).catch((error) => {
  get("name-problem").textContent = error.message;
  view("start");
});
