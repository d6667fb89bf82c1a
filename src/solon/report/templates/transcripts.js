// Shows what "find" finds, a page at a time. Everything a model wrote reaches the page as text nodes only, never as
// markup.

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

// ---- One transcript

const models = read("models"); // id -> [label, colour]
let requests = []; // what the transcripts of the shown page refer to by number
let instructions = [];
const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)}%`);
const modelName = (id) => (models[id] ? models[id][0] : id);

function text(content) {
  if (!content.trim()) return element("div", "text empty", "(empty)");
  const made = element("div", "text", content);
  made.dir = "auto"; // Arabic, Hebrew and others run from right to left
  return made;
}

const said = (by, content) => element("div", "", element("p", "who", by), text(content));

function folded(title, ...children) {
  return element("details", "asked", element("summary", "", title), ...children);
}

// What a model thought before it answered: no part of the answer, and folded away.
const thought = (content, title = "Thoughts") => (content ? folded(title, text(content)) : "");

function roundView(round, number) {
  const [principle, critiqueRequest, revisionRequest, critiqueStart, revisionStart] = requests[round.request];
  const view = element("div", "step", element("p", "name", `Round ${number + 1}: ${principle}`));
  if (round.critique) view.append(said("Critique", round.critique));
  view.append(thought(round.critique_thinking, "Thoughts before the critique"), said("Revision", round.revision),
    thought(round.thinking, "Thoughts before the revision"));
  if (round.problem) view.append(element("p", "problem", `Not trained on: ${round.problem}`));
  if (round.attempts > 1) view.append(element("p", "who", `Sampled ${round.attempts} times`));
  view.append(folded("What was asked",
    said("Critique request", critiqueRequest),
    critiqueStart ? said("The constitution began the critique", critiqueStart) : "",
    said("Revision request", revisionRequest),
    revisionStart ? said("The constitution began the revision", revisionStart) : ""));
  return view;
}

function voteView(vote, chosen) {
  const [principle, instruction] = instructions[vote.instruction];
  const response = `response ${chosen + 1}`;
  const places = ["first", "second"];
  const orders = vote.orders.length > 1
    ? ` (${vote.orders.map((share, i) => `${percent(share)} when shown ${places[i]}`).join(", ")})` : "";
  const ratings = vote.ratings.length
    ? `, rated ${vote.ratings.map((rating) => rating.toFixed(2)).join(" against ")} (0 is best)` : "";
  const judge = vote.judge ? `, by ${vote.judge}` : "";
  const weight = vote.weight === undefined ? "" : `, of weight ${vote.weight}`;
  const filled = element("span");
  filled.style.width = `${100 * (vote.probability || 0)}%`;
  return element("div", "vote",
    element("p", "", element("strong", "", principle), `: ${percent(vote.probability)} for ${response}${orders}${ratings}${judge}${weight}`),
    element("div", "meter", filled),
    folded(vote.reasoning.length ? "Reasoning and question" : "Question",
      element("div", "columns", ...vote.reasoning.map((reason, i) =>
        said(`Reasoning with ${response} shown ${places[i]}`, reason))),
      element("div", "columns", ...(vote.thinking || []).map((content, i) =>
        said(`Thoughts with ${response} shown ${places[i]}`, content))),
      said("Question", instruction)));
}

function pairView(pair, number, count) {
  const chosen = pair.labels.length === 1 ? pair.labels[0].chosen : null;
  const view = element("div", "", element("h4", "", count > 1 ? `Candidate pair ${number + 1}` : "Candidate pair"));
  view.append(element("div", "columns", ...pair.responses.map((response, i) =>
    element("div", chosen === i ? "card chosen" : "card",
      said(`Response ${i + 1}${chosen === i ? " · preferred" : ""}`, response),
      thought(pair.thinking && pair.thinking[i])))));
  if (pair.problem) view.append(element("p", "problem", `Not compared: ${pair.problem}`));
  for (const label of pair.labels) {
    const by = label.source === "human" ? `a human (${label.labeller})` : label.labeller;
    view.append(element("p", "", `Label for ${label.aspect}: response ${label.chosen + 1} is better ` +
      `with probability ${percent(label.probability)}, by ${by}.`));
    view.append(...label.votes.map((vote) => voteView(vote, label.chosen)));
  }
  return view;
}

function evaluationView(record) {
  const view = element("div", "", element("h4", "", "The models' answers in the evaluation"));
  view.append(element("div", "columns", ...record.answers.map((answer) => {
    const known = models[answer.model] ? answer.model : "";
    const score = answer.preference_score === null ? "–" : answer.preference_score.toFixed(2).replace("-", "−");
    return element("div", `card ${known}`,
      element("p", "name", element("span", `dot ${known}`), modelName(answer.model)),
      element("p", "who", `PM score ${score} · ${answer.words} words${answer.refusal ? " · refusal" : ""}`),
      text(answer.text));
  })));
  for (const judged of record.judgements || []) {
    const says = `${modelName(judged.model_a)} better than ${modelName(judged.model_b)}: ${percent(judged.probability)}`;
    view.append(element("p", "who", [says, judged.aspect, judged.principle].filter(Boolean).join(" · ")));
  }
  return view;
}

const permalink = (record) => `#${encodeURIComponent(record.id)}`;
const ROLES = { user: "Human", assistant: "Assistant", system: "System" };

function bodyView(record) {
  const body = element("div", "body", ...record.prompt.map((turn) => said(ROLES[turn.role] || turn.role, turn.content)));
  if (record.answer !== undefined) {
    body.append(element("h4", "", "The assistant's answer"), text(record.answer), thought(record.thinking));
    if (record.problem) body.append(element("p", "problem", `Not trained on: ${record.problem}`));
  }
  if (record.rounds && record.rounds.length) {
    body.append(element("h4", "", "Critiques and revisions"), ...record.rounds.map(roundView));
  }
  (record.pairs || []).forEach((pair, i, all) => body.append(pairView(pair, i, all.length)));
  if (record.answers) body.append(evaluationView(record));
  const link = element("a", "who", "Link to this transcript");
  link.href = permalink(record);
  body.append(link);
  return body;
}

function transcriptView(record) {
  const view = element("details", "transcript");
  const turns = record.prompt.filter((turn) => turn.role === "user");
  const title = element("span", "title", (turns[turns.length - 1] || record.prompt[0] || { content: "" }).content);
  title.dir = "auto";
  const disagreement = record.spread === null ? "" : element("span", "who", `disagreement ${percent(record.spread)}`);
  const tags = element("span", "tags", [record.set, record.kind, record.split].filter(Boolean).join(" · "));
  view.append(element("summary", "", title, tags, disagreement));
  view.addEventListener("toggle", () => {
    if (!view.open) return;
    if (view.childElementCount === 1) view.append(bodyView(record));
    history.replaceState(null, "", permalink(record));
  });
  return view;
}

// ---- The list of them, a page at a time

const control = (id) => document.getElementById(id);
const wanted = () => ({
  search: control("search").value.trim(),
  ...Object.fromEntries(["set", "kind", "principle", "order"].map((id) => [id, control(id).value])),
});
const PAUSE = 150; // ms without a key before a search begins
let asked = 0;
let current = { page: 1, pages: 1 };

function offer(choices) {
  for (const [id, values] of Object.entries(choices)) {
    const known = [...control(id).options].map((option) => option.value);
    control(id).append(...values.filter((value) => !known.includes(value)).map((value) => new Option(value, value)));
  }
}

// Shows a page of what is wanted, or the page that holds the transcript "id"; tells whether there was one.
async function show(page, id = "") {
  const mine = ++asked;
  let found;
  try {
    found = await find(wanted(), page, id);
  } catch (error) {
    control("shown").textContent = error.message;
    return false;
  }
  if (mine !== asked) return null; // something else was asked meanwhile
  if (!found) return false;
  current = found;
  ({ requests, instructions } = found);
  offer(found.choices);
  control("list").replaceChildren(...found.transcripts.map(transcriptView));
  control("shown").textContent = `${found.found.toLocaleString("en")} of ${found.total.toLocaleString("en")} transcripts`;
  control("pages").hidden = found.pages === 1;
  control("page").value = found.page;
  control("page").max = found.pages;
  control("of").textContent = `of ${found.pages.toLocaleString("en")}`;
  control("previous").disabled = found.page === 1;
  control("next").disabled = found.page === found.pages;
  return true;
}

function linked() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

// Opens the transcript that the address names, without filters if they hide it; tells whether it names one.
async function follow() {
  const id = linked();
  if (!id) return false;
  const kept = wanted();
  let there = await show(1, id);
  if (there === false) {
    control("filters").reset();
    there = await show(1, id);
  }
  if (there === false) for (const [name, value] of Object.entries(kept)) control(name).value = value;
  if (!there) return there === null; // a part of the page, or the reader went on
  const view = control("list").children[current.transcripts.findIndex((record) => record.id === id)];
  view.addEventListener("toggle", () => view.scrollIntoView(), { once: true }); // once it has its height
  view.open = true;
  view.scrollIntoView();
  view.querySelector("summary").focus({ preventScroll: true });
  return true;
}

async function turnTo(page) {
  if (await show(page)) control("list").querySelector("summary")?.focus();
}

let waiting;
function refresh() {
  clearTimeout(waiting);
  waiting = setTimeout(() => show(1), PAUSE);
}

async function begin() {
  control("filters").addEventListener("submit", (event) => event.preventDefault());
  control("filters").addEventListener("input", refresh);
  control("previous").addEventListener("click", () => turnTo(current.page - 1));
  control("next").addEventListener("click", () => turnTo(current.page + 1));
  control("page").addEventListener("change", () => turnTo(Number(control("page").value) || 1));
  window.addEventListener("hashchange", follow);
  if (!(await follow())) show(1);
}

if (control("filters")) begin();
