"use strict";
// Everything a model wrote reaches the page as text nodes only, never as markup.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

// ---- Figures: Plotly draws them, the stylesheet's colours of the moment ink them.

const figures = read("figures");

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--rule"), zerolinecolor: colour("--rule"), linecolor: colour("--rule") };
  return {
    ...layout,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--soft") },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis },
  };
}

function drawFigures() {
  for (const place of document.querySelectorAll("[data-figure]")) {
    const { data, layout } = figures[place.dataset.figure];
    Plotly.react(place, data, themed(layout), { responsive: true, displayModeBar: false });
  }
}

drawFigures();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawFigures);

// ---- Transcripts

const { requests, instructions, transcripts } = read("records");
const models = read("models"); // id -> [label, colour]
const PAGE = 50;
const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)} %`);
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

function roundView(round, number) {
  const [principle, critiqueRequest, revisionRequest] = requests[round.request];
  const view = element("div", "step", element("p", "who", `Round ${number + 1} · ${principle}`));
  view.append(element("details", "who",
    element("summary", "", "What was asked"), text(critiqueRequest), text(revisionRequest)));
  if (round.critique) view.append(element("div", "thought", element("p", "who", "Critique"), text(round.critique)));
  view.append(element("p", "who", "Revision"), text(round.revision));
  if (round.problem) view.append(element("p", "problem", `Not trained on: ${round.problem}`));
  if (round.attempts > 1) view.append(element("p", "who", `Sampled ${round.attempts} times`));
  return view;
}

function voteView(vote, chosen) {
  const [principle, instruction] = instructions[vote.instruction];
  const orders = vote.orders.length > 1
    ? ` (shown first ${percent(vote.orders[0])}, shown second ${percent(vote.orders[1])})` : "";
  const view = element("div", "vote", `${principle}: ${percent(vote.probability)} for response ${chosen + 1}${orders}`);
  const filled = element("span");
  filled.style.width = `${100 * (vote.probability || 0)}%`;
  view.append(element("div", "meter", filled));
  view.append(element("details", "who", element("summary", "", vote.reasoning.length ? "Question and reasoning" : "Question"),
    text(instruction), ...vote.reasoning.map((thought) => element("div", "turn", text(thought)))));
  return view;
}

function pairView(pair, number, count) {
  const chosen = pair.labels.length === 1 ? pair.labels[0].chosen : null;
  const view = element("div", "", element("h4", "", count > 1 ? `Candidate pair ${number + 1}` : "Candidate pair"));
  view.append(element("div", "columns", ...pair.responses.map((response, i) =>
    element("div", chosen === i ? "card chosen" : "card",
      element("p", "who", `Response ${i + 1}${chosen === i ? " · preferred" : ""}`), text(response)))));
  if (pair.problem) view.append(element("p", "problem", `Not compared: ${pair.problem}`));
  for (const label of pair.labels) {
    const by = label.source === "human" ? `a human (${label.labeller})` : label.labeller;
    view.append(element("p", "", `Soft label for ${label.aspect}: response ${label.chosen + 1} is better, ` +
      `${percent(label.probability)}, by ${by}.`));
    view.append(...label.votes.map((vote) => voteView(vote, label.chosen)));
  }
  return view;
}

function evaluationView(record) {
  const view = element("div", "", element("h4", "", "The models' answers in the evaluation"));
  view.append(element("div", "columns", ...record.answers.map((answer) => {
    const score = answer.preference_score === null ? "–" : answer.preference_score.toFixed(2);
    const heading = element("p", "who", element("span", `dot ${models[answer.model] ? answer.model : ""}`),
      `${modelName(answer.model)} · PM score ${score} · ${answer.words} words${answer.refusal ? " · refusal" : ""}`);
    return element("div", `card ${models[answer.model] ? answer.model : ""}`, heading, text(answer.text));
  })));
  for (const judged of record.judgements || []) {
    view.append(element("p", "who", `${modelName(judged.model_a)} over ${modelName(judged.model_b)} in ${judged.aspect}: ` +
      `${percent(judged.probability)} · ${judged.principle}`));
  }
  return view;
}

function bodyView(record) {
  const link = element("a", "who", "Link to this transcript");
  link.href = `#${encodeURIComponent(record.id)}`;
  const body = element("div", "body", link);
  for (const turn of record.prompt) {
    body.append(element("div", "turn", element("p", "who", turn.role), text(turn.content)));
  }
  if (record.answer !== undefined) {
    body.append(element("h4", "", "The assistant's answer"), text(record.answer));
    if (record.problem) body.append(element("p", "problem", `Not trained on: ${record.problem}`));
  }
  if (record.rounds && record.rounds.length) {
    body.append(element("h4", "", "Critiques and revisions"), ...record.rounds.map(roundView));
  }
  (record.pairs || []).forEach((pair, i, all) => body.append(pairView(pair, i, all.length)));
  if (record.answers) body.append(evaluationView(record));
  return body;
}

function transcriptView(record) {
  const view = element("details", "transcript");
  const turns = record.prompt.filter((turn) => turn.role === "user");
  const title = element("span", "title", (turns[turns.length - 1] || record.prompt[0] || { content: "" }).content);
  const disagreement = record.spread === null ? "" : element("span", "who", `disagreement ${percent(record.spread)}`);
  const tags = element("span", "tags", [record.set, record.kind, record.split].filter(Boolean).join(" · "));
  view.append(element("summary", "", title, disagreement, tags));
  view.addEventListener("toggle", () => {
    if (!view.open) return;
    if (view.childElementCount === 1) view.append(bodyView(record));
    history.replaceState(null, "", `#${encodeURIComponent(record.id)}`);
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
    const id = decodeURIComponent(location.hash.slice(1));
    const place = () => found.findIndex((one) => one.record.id === id);
    if (!transcripts.some((record) => record.id === id)) return;
    if (place() < 0) {
      control("filters").reset();
      refresh();
    }
    limit = Math.max(limit, place() + 1);
    showMore();
    const view = list.children[place()];
    view.open = true;
    view.scrollIntoView();
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
