// Node's own HTTP client: it sends a body in chunks with trailers behind it, and shows those of the answer.

import http from "node:http";
import { serve } from "./driver.mjs";

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

serve(
  ({ url, method, headers, body, trailers }) =>
    new Promise((resolve, reject) => {
      const request = http.request(url, { method, headers: { TE: "trailers", ...headers }, agent }, (response) => {
        const parts = [];
        response.on("data", (part) => parts.push(part));
        response.on("error", reject);
        response.on("end", () =>
          resolve({
            status: response.statusCode,
            headers: Object.entries(response.headers),
            body: Buffer.concat(parts).toString(),
            trailers: response.trailers,
            reused: request.reusedSocket,
          }),
        );
      });
      request.on("error", reject);
      for (const part of body ?? []) request.write(part);
      if (trailers) request.addTrailers(trailers);
      request.end();
    }),
);
