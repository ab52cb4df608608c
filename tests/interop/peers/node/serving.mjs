// What the Node servers share: where they listen, what they are told, and what their routes answer.

import { setTimeout as sleep } from "node:timers/promises";

for (const level of ["log", "info", "debug"]) console[level] = console.error;

export const { PAY_TO, FACILITATOR_URL, MPP_SECRET_KEY } = process.env;
export const NETWORK = "eip155:84532";
export const WEATHER = { report: { weather: "sunny", temperature: 70 } };
export const PRICES = { "GET /weather": "0.01", "POST /echo": "0.02", "GET /stream": "0.01" };

/** Five server-sent events over two seconds. */
export async function* events() {
  for (let event = 1; event <= 5; event++) {
    if (event > 1) await sleep(500);
    yield `data: ${JSON.stringify({ event })}\n\n`;
  }
}

/** Those events as the body of a fetch Response. */
export const eventStream = () =>
  new Response(ReadableStream.from(events()).pipeThrough(new TextEncoderStream()), {
    headers: { "Content-Type": "text/event-stream" },
  });

/** Tells the parent where we are, and leaves when it does. */
export function announce(port) {
  process.stdout.write(JSON.stringify({ url: `http://127.0.0.1:${port}` }) + "\n");
  process.stdin.resume().on("end", () => process.exit(0));
}

/** The three routes on Express, each behind what was mounted before. */
export function serveExpress(app, express) {
  app.use(express.json());
  app.get("/weather", (_request, response) => response.json(WEATHER));
  app.post("/echo", (request, response) => response.json(request.body));
  app.get("/stream", async (_request, response) => {
    response.setHeader("Content-Type", "text/event-stream");
    for await (const event of events()) response.write(event);
    response.end();
  });
  const listener = app.listen(0, "127.0.0.1", () => announce(listener.address().port));
}

/** The routes of an x402 resource server, as every `@x402` middleware takes them. */
export const x402Routes = Object.fromEntries(
  Object.entries(PRICES).map(([route, price]) => [
    route,
    { accepts: { scheme: "exact", price: `$${price}`, network: NETWORK, payTo: PAY_TO } },
  ]),
);
