// Questions to the server that this page came from.

const API = new URL("api/", import.meta.url);

/** What is wrong, in words. */
export class Trouble extends Error {}

/** The answer to a question, or `Trouble`. */
export async function ask(question, asked = {}) {
  const url = new URL(question, API);
  for (const [name, value] of Object.entries(asked)) if (value !== "" && value !== undefined) url.searchParams.set(name, value);
  let answer;
  try {
    answer = await fetch(url, { headers: { accept: "application/json" }, credentials: "same-origin", cache: "no-store" });
  } catch {
    throw new Trouble("The server does not answer. Is it still running?");
  }
  const content = await answer.json().catch(() => null);
  if (answer.ok && content !== undefined) return content;
  if (answer.status === 401 || answer.status === 403) throw new Trouble("You may not look at this any more. Load the page again to sign in.");
  throw new Trouble(content?.detail || `The server answered ${answer.status}.`);
}
