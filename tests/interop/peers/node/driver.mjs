// The line protocol of every Node peer: one JSON request a line in, one JSON answer a line out.
// The shapes are those of ../python/driver.py; requests run side by side.

import { createInterface } from "node:readline";
import { performance } from "node:perf_hooks";

// Libraries print; the answers must not be mixed with that.
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
for (const level of ["log", "info", "debug"]) console[level] = console.error;

/** Reads a fetch Response to its end, noting when each piece came; `receipt` is the client's own decoder. */
export async function answer(response, receipt, start) {
  const chunks = [];
  const decoder = new TextDecoder();
  for await (const data of response.body ?? [])
    chunks.push([(performance.now() - start) / 1000, decoder.decode(data, { stream: true })]);
  return {
    status: response.status,
    headers: [...response.headers.entries()],
    body: chunks.map(([, text]) => text).join(""),
    receipt: (await receipt(response)) ?? null,
    chunks,
  };
}

/** The RequestInit of a request; a client gets the body as the string it was given. */
export const init = ({ method, headers, body }) => ({
  method,
  headers: headers ?? {},
  ...(body == null ? {} : { body }),
});

/** Answers requests until standard input ends. */
export function serve(pay) {
  say({ ready: true });
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    if (!line.trim()) return;
    const request = JSON.parse(line);
    const start = performance.now();
    let result;
    try {
      result = await pay(request, start);
    } catch (error) {
      console.error(error);
      result = { error: `${error?.name ?? "Error"}: ${error?.message ?? error}` };
    }
    say({ id: request.id, seconds: (performance.now() - start) / 1000, ...result });
  });
  lines.on("close", () => process.exit(0));
}
