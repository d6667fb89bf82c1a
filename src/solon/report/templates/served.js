// Transcripts that the viewer reads from the run's files.

// A page of the transcripts wanted, or the page that holds the transcript "id"; null where none does.
async function find(wanted, page, id) {
  const answer = await fetch(`/transcripts.json?${new URLSearchParams({ ...wanted, page, id })}`).catch(() => {
    throw new Error("The viewer does not answer; start it again with solon view.");
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}
