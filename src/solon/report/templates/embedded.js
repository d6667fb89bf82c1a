// Transcripts that are in the page itself.

const PAGE = 50; // transcripts on one page
const embedded = read("records");

function principlesOf(record) {
  const critiques = (record.rounds || []).map((round) => embedded.requests[round.request][0]);
  const votes = (record.pairs || []).flatMap((pair) =>
    pair.labels.flatMap((label) => label.votes.map((vote) => embedded.instructions[vote.instruction][0])));
  return [...new Set([...critiques, ...votes])];
}

const thoughtsOf = (part) => [part.thinking || [], part.critique_thinking || []].flat();

function wordsOf(record) {
  const said = record.prompt.map((turn) => turn.content);
  said.push(record.id, record.answer || "", ...thoughtsOf(record));
  for (const round of record.rounds || []) said.push(round.critique, round.revision, ...thoughtsOf(round));
  for (const pair of record.pairs || []) {
    said.push(...pair.responses, ...thoughtsOf(pair));
    for (const vote of pair.labels.flatMap((label) => label.votes)) said.push(...vote.reasoning, ...thoughtsOf(vote));
  }
  for (const answer of record.answers || []) said.push(answer.text);
  return said.join("\n").toLowerCase();
}

const known = embedded.transcripts.map((record) => ({
  record,
  words: wordsOf(record),
  set: [record.set],
  kind: [record.kind],
  principle: principlesOf(record),
}));
const FILTERS = ["set", "kind", "principle"];
const choices = Object.fromEntries(FILTERS.map((filter) =>
  [filter, [...new Set(known.flatMap((one) => one[filter]))].filter(Boolean).sort()]));

// A page of the transcripts wanted, or the page that holds the transcript "id"; null where none does.
async function find(wanted, page, id) {
  const words = wanted.search.toLowerCase();
  const found = known.filter((one) => one.words.includes(words) &&
    FILTERS.every((filter) => !wanted[filter] || one[filter].includes(wanted[filter]))).map((one) => one.record);
  if (wanted.order) found.sort((a, b) => (b.spread ?? -1) - (a.spread ?? -1));
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const place = found.findIndex((record) => record.id === id);
  if (id && place < 0) return null;
  const number = Math.min(Math.max(id ? 1 + Math.floor(place / PAGE) : page, 1), pages);
  return {
    ...embedded,
    choices,
    total: known.length,
    found: found.length,
    page: number,
    pages,
    transcripts: found.slice(PAGE * (number - 1), PAGE * number),
  };
}
