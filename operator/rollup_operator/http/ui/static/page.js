// Keeps the parts of a page up to date, and says what becomes of a change. Every page works without it.
"use strict";

const TIMEOUT_MS = 15000;

document.documentElement.classList.add("scripted"); // forms that follow each choice need no button

// What is new goes into what is there, so that focus, selection and scroll position stay.

function patch(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  patchChildren(old, fresh);
}

function patchChildren(old, fresh) {
  if (fresh.firstElementChild?.dataset?.job) {
    patchRows(old, fresh);
    return;
  }
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const next = at?.nextSibling ?? null;
    if (at) patch(at, child);
    else old.appendChild(child);
    at = next;
  }
  removeFrom(at);
}

// A row is known by its job, wherever it goes.
function patchRows(old, fresh) {
  const known = new Map([...old.children].map((row) => [row.dataset.job, row]));
  let at = old.firstElementChild;
  for (const row of [...fresh.children]) {
    const same = known.get(row.dataset.job);
    if (same) patch(same, row);
    if (same && same === at) at = at.nextElementSibling;
    else old.insertBefore(same ?? row, at);
  }
  removeFrom(at);
}

function removeFrom(node) {
  while (node) {
    const next = node.nextSibling;
    node.remove();
    node = next;
  }
}

function update(part, text) {
  const focused = document.activeElement;
  const fresh = new DOMParser().parseFromString(text, "text/html").body;
  patchChildren(part, fresh);
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

function say(text) {
  const said = document.getElementById("said");
  if (said.textContent !== text) said.textContent = text;
}

// A part is asked for again after each answer, as long as somebody looks.

class Kept {
  constructor(part) {
    this.part = part;
    this.every = 1000 * Number(part.dataset.every);
    this.failures = 0;
    this.later();
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), this.every * Math.min(1 + this.failures, 6));
  }

  async refresh() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    const limit = setTimeout(() => asked.abort(), TIMEOUT_MS);
    const url = this.part.querySelector("[data-url]").dataset.url;
    try {
      const answer = await fetch(url, { signal: asked.signal, headers: { Accept: "text/html" } });
      const text = await answer.text();
      if (asked !== this.asked) return;
      if (answer.status === 401) {
        location.reload(); // the session has ended: this leads to the login, and back
        return;
      }
      if (!answer.ok) throw new Error(answer.statusText);
      update(this.part, text);
      this.part.removeAttribute("data-stale");
      if (this.failures) say("Connected again");
      this.failures = 0;
      this.part.dispatchEvent(new Event("updated"));
    } catch (error) {
      if (asked !== this.asked) return;
      this.failures += 1;
      if (this.failures === 2) {
        this.part.setAttribute("data-stale", "");
        say("The operator does not answer; trying again");
      }
    } finally {
      clearTimeout(limit);
    }
    this.later();
  }
}

// A change is sent without leaving the page, which shows meanwhile what the job waits for.

const progress = document.getElementById("progress");

function show(text, kind, where = progress) {
  where.hidden = false;
  where.className = `notice ${kind}`;
  if (where.textContent !== text) where.textContent = text;
}

function offer(live) {
  const can = live.querySelector("[data-can]").dataset.can.split(" ");
  for (const form of document.querySelectorAll("form[data-change]")) {
    if (form.hidden === !can.includes(form.id)) continue;
    if (form.contains(document.activeElement)) {
      if (form.ariaBusy === "true") continue;
      saying(form).focus({ preventScroll: true });
    }
    form.hidden = !can.includes(form.id);
  }
  const repair = document.getElementById("repair");
  if (repair && repair !== document.activeElement) repair.hidden = !can.includes("run");
}

// Where a form says what becomes of it.
function saying(form) {
  return document.getElementById(form.dataset.says ?? "progress");
}

async function change(form, live) {
  if (document.querySelector("form[aria-busy=true]")) return;
  const began = Date.now();
  const waited = () => Math.round((Date.now() - began) / 1000);
  form.ariaBusy = "true";
  const where = saying(form);
  show(`${form.dataset.change} …`, "plain", where);
  const clock = setInterval(() => {
    show(`${form.dataset.change} … ${waited()} s`, "plain", where);
    live.refresh();
  }, 1000);
  let text = "The operator does not answer; it is not known what became of this. The state below is the newest.";
  let kind = "bad";
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { Accept: "application/json" },
    });
    text = (await answer.json()).message;
    kind = answer.ok ? "good" : "bad";
  } catch (error) {
    // The text above says it.
  } finally {
    clearInterval(clock);
    form.ariaBusy = "false";
  }
  show(text, kind, where);
  await live.refresh();
}

const kept = [...document.querySelectorAll(".kept")].map((part) => new Kept(part));

// A list follows the search while it is typed.

const search = document.getElementById("q");
if (search) {
  const list = kept.find((one) => one.part.id === "list");
  let typed;
  search.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(async () => {
      const url = new URL(location.href);
      url.searchParams.delete("page");
      if (search.value.trim()) url.searchParams.set("q", search.value.trim());
      else url.searchParams.delete("q");
      history.replaceState(null, "", url);
      url.searchParams.set("part", "list");
      list.part.querySelector("[data-url]").dataset.url = url.pathname + url.search;
      await list.refresh();
      say(document.getElementById("count")?.textContent ?? "");
    }, 250);
  });
}

const live = kept.find((one) => one.part.id === "live");
if (live) {
  live.part.addEventListener("updated", () => offer(live.part));
  for (const form of document.querySelectorAll("form[data-change]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      change(form, live);
    });
  }
}

// Texts are copied by a button; where the browser keeps the clipboard from a page, they are selected.

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  const text = button.previousElementSibling;
  getSelection().selectAllChildren(text);
  try {
    await navigator.clipboard.writeText(text.textContent);
  } catch (error) {
    say("Selected: copy it by keyboard");
    return;
  }
  button.textContent = "Copied";
  say("Copied");
  setTimeout(() => {
    button.textContent = "Copy";
    say("");
  }, 2000);
});

// Time line and chart come after the rest, since a store has to be asked for them.

const data = document.getElementById("data");

async function draw(parameters) {
  const url = `${data.dataset.url}?${new URLSearchParams([...parameters, ["part", "data"]])}`;
  data.ariaBusy = "true";
  try {
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    update(data, await answer.text());
  } catch (error) {
    say("The operator does not answer; the chart is as it was");
  } finally {
    data.ariaBusy = "false";
  }
}

function chosen() {
  const form = document.getElementById("chart-form");
  return form ? new FormData(form) : [];
}

if (data) {
  draw([]);
  for (const kind of ["change", "submit"]) {
    data.addEventListener(kind, (event) => {
      event.preventDefault();
      draw(chosen());
    });
  }
}

// A verification goes on as long as its request. Its answer has lines: how far it is, and at the end what was found.

const verifying = document.getElementById("verify");

async function* linesOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

async function verify(button) {
  if (verifying.ariaBusy === "true") return;
  const [told, cancel, found] = ["verifying", "cancel", "found"].map((id) => document.getElementById(id));
  const [text, bar] = told.children;
  const verdict = () => document.getElementById("verdict");
  const tell = (what, percent, kind = "plain") => {
    told.hidden = false;
    told.className = `notice ${kind}`;
    if (text.textContent !== what) text.textContent = what;
    bar.hidden = percent === undefined;
    if (percent === null || percent === undefined) bar.removeAttribute("value");
    else bar.value = percent;
  };
  const stop = new AbortController();
  cancel.onclick = () => stop.abort();
  verifying.ariaBusy = "true";
  cancel.hidden = false;
  say("");
  tell("Beginning …", null);
  let problem = "The operator's answer ended before the verification did; it was ended, too.";
  try {
    const answer = await fetch(button.getAttribute("formaction") ?? verifying.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(verifying)),
      headers: { Accept: "application/x-ndjson, application/json" },
      signal: stop.signal,
    });
    if (answer.status === 401) location.reload();
    if (!answer.ok) problem = (await answer.json()).message;
    else
      for await (const line of linesOf(answer)) {
        if (line.progress) tell(line.progress.text, line.progress.percent);
        else if (line.message) problem = line.message;
        else if (line.html) {
          problem = "";
          update(found, line.html);
        }
      }
  } catch (error) {
    if (stop.signal.aborted) problem = "Cancelled: nothing is read any more. A run that was requested goes on.";
  }
  verifying.ariaBusy = "false";
  const waited = cancel === document.activeElement;
  cancel.hidden = true;
  if (problem) {
    found.replaceChildren();
    tell(problem, undefined, stop.signal.aborted ? "plain" : "bad");
  } else {
    told.hidden = true;
    say(verdict().textContent);
  }
  if (waited) (problem ? told : verdict()).focus({ preventScroll: true });
  live?.refresh();
  if (data) draw(chosen());
}

if (verifying) {
  verifying.addEventListener("submit", (event) => {
    event.preventDefault();
    verify(event.submitter ?? verifying.querySelector("button"));
  });
}
