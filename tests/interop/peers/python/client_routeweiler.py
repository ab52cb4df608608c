"""routeweiler 0.1.2, a router that pays x402 among other rails; it hands on whole answers only."""

from driver import answer, serve
from eth_account import Account
from routeweiler import Funding, Routeweiler


async def pay(request):
    wallet = Account.from_key(request["private_key"])
    async with Routeweiler(funding=[Funding.base_sepolia_usdc(wallet=wallet)]) as client:
        response = await client.request(
            request["method"], request["url"], content=request.get("body"), headers=request.get("headers"), timeout=60
        )
        return answer(response.status_code, response.headers.multi_items(), body=response.text)


serve(pay)
