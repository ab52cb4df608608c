// mppx 0.11 on Hono for the benchmarks: open to standard x402 payers, with a settlement that is a constant.

import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { evm, Mppx } from "mppx/hono";

const { BENCH_PAY_TO, BENCH_SECRET, BENCH_PORT } = process.env;
const yes = {
  verify: async () => ({ isValid: true, payer: "0x" + "11".repeat(20) }),
  settle: async () => ({ success: true, transaction: "0x" + "00".repeat(32), network: "eip155:84532" }),
  supported: async () => ({ kinds: [{ x402Version: 2, scheme: "exact", network: "eip155:84532" }] }),
};
const mppx = Mppx.create({
  methods: [
    evm({
      currency: evm.assets.baseSepolia.USDC,
      recipient: BENCH_PAY_TO,
      settle: async () => ({ reference: "0x" + "00".repeat(32) }),
      x402: { facilitator: yes },
    }),
  ],
  secretKey: BENCH_SECRET,
});
const app = new Hono();
app.get("/report", mppx.charge({ amount: "0.01" }), (c) =>
  c.json({ report: { weather: "sunny", temperature: 70 } }),
);
serve({ fetch: app.fetch, port: Number(BENCH_PORT), hostname: "127.0.0.1" });
