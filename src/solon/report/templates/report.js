// Everything a model wrote reaches the page as text nodes only, never as markup.

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

// ---- Transcripts

const { requests, instructions, transcripts } = read("records");
const models = read("models"); // id -> [label, colour]
const PAGE = 50;
const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)}%`);
const modelName = (id) => (models[id] ? models[id][0] : id);

function text(content) {
  return content.trim() ? element("div", "text", content) : element("div", "text empty", "(empty)");
}

function principlesOf(record) {
  const critiques = (record.rounds || []).map((round) => requests[round.request][0]);
  const votes = (record.pairs || []).flatMap((pair) =>
    pair.labels.flatMap((label) => label.votes.map((vote) => instructions[vote.instruction][0])));
  return [...new Set([...critiques, ...votes])];
}

function wordsOf(record) {
  const said = record.prompt.map((turn) => turn.content);
  said.push(record.id, record.answer || "");
  for (const round of record.rounds || []) said.push(round.critique, round.revision);
  for (const pair of record.pairs || []) {
    said.push(...pair.responses);
    for (const label of pair.labels) for (const vote of label.votes) said.push(...vote.reasoning);
  }
  for (const answer of record.answers || []) said.push(answer.text);
  return said.join("\n").toLowerCase();
}

const said = (by, content) => element("div", "", element("p", "who", by), text(content));

function folded(title, ...children) {
  return element("details", "asked", element("summary", "", title), ...children);
}

function roundView(round, number) {
  const [principle, critiqueRequest, revisionRequest] = requests[round.request];
  const view = element("div", "step", element("p", "name", `Round ${number + 1}: ${principle}`));
  if (round.critique) view.append(said("Critique", round.critique));
  view.append(said("Revision", round.revision));
  if (round.problem) view.append(element("p", "problem", `Not trained on: ${round.problem}`));
  if (round.attempts > 1) view.append(element("p", "who", `Sampled ${round.attempts} times`));
  view.append(folded("What was asked",
    said("Critique request", critiqueRequest), said("Revision request", revisionRequest)));
  return view;
}

function voteView(vote, chosen) {
  const [principle, instruction] = instructions[vote.instruction];
  const response = `response ${chosen + 1}`;
  const places = ["first", "second"];
  const orders = vote.orders.length > 1
    ? ` (${vote.orders.map((share, i) => `${percent(share)} when shown ${places[i]}`).join(", ")})` : "";
  const filled = element("span");
  filled.style.width = `${100 * (vote.probability || 0)}%`;
  return element("div", "vote",
    element("p", "", element("strong", "", principle), `: ${percent(vote.probability)} for ${response}${orders}`),
    element("div", "meter", filled),
    folded(vote.reasoning.length ? "Reasoning and question" : "Question",
      element("div", "columns", ...vote.reasoning.map((thought, i) =>
        said(`Reasoning with ${response} shown ${places[i]}`, thought))),
      said("Question", instruction)));
}

function pairView(pair, number, count) {
  const chosen = pair.labels.length === 1 ? pair.labels[0].chosen : null;
  const view = element("div", "", element("h4", "", count > 1 ? `Candidate pair ${number + 1}` : "Candidate pair"));
  view.append(element("div", "columns", ...pair.responses.map((response, i) =>
    element("div", chosen === i ? "card chosen" : "card",
      said(`Response ${i + 1}${chosen === i ? " · preferred" : ""}`, response)))));
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
    body.append(element("h4", "", "The assistant's answer"), text(record.answer));
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

function browse() {
  const control = (id) => document.getElementById(id);
  const [list, more] = [control("list"), control("more")];
  const known = transcripts.map((record) => ({ record, principles: principlesOf(record), words: wordsOf(record) }));
  const choices = { set: (one) => [one.record.set], kind: (one) => [one.record.kind], principle: (one) => one.principles };
  for (const [id, values] of Object.entries(choices)) {
    for (const value of [...new Set(known.flatMap(values))].filter(Boolean).sort()) {
      control(id).append(new Option(value, value));
    }
  }
  let found = [];
  let limit = PAGE;

  function showMore() {
    const start = list.childElementCount;
    list.append(...found.slice(start, limit).map((one) => transcriptView(one.record)));
    more.hidden = limit >= found.length;
    control("shown").textContent = `${found.length} of ${transcripts.length} transcripts`;
  }
  function refresh() {
    const wanted = control("search").value.trim().toLowerCase();
    found = known.filter((one) => one.words.includes(wanted) && Object.entries(choices).every(([id, values]) =>
      !control(id).value || values(one).includes(control(id).value)));
    if (control("order").value) found.sort((a, b) => (b.record.spread ?? -1) - (a.record.spread ?? -1));
    limit = PAGE;
    list.replaceChildren();
    showMore();
  }
  function follow() {
    const named = (one) => permalink(one.record) === location.hash;
    if (!known.some(named)) return;
    if (!found.some(named)) {
      control("filters").reset();
      refresh();
    }
    const place = found.findIndex(named);
    limit = Math.max(limit, place + 1);
    showMore();
    const view = list.children[place];
    view.addEventListener("toggle", () => view.scrollIntoView(), { once: true }); // once it has its height
    view.open = true;
    view.scrollIntoView();
    view.querySelector("summary").focus({ preventScroll: true });
  }
  more.addEventListener("click", () => {
    limit += PAGE;
    showMore();
    list.children[limit - PAGE]?.querySelector("summary").focus();
  });
  control("filters").addEventListener("submit", (event) => event.preventDefault());
  control("filters").addEventListener("input", refresh);
  window.addEventListener("hashchange", follow);
  refresh();
  follow();
}

if (transcripts.length) browse();
