"""Judges tokens with joserfc: the first line of the input is the policy, each other one a token, all of them in JSON.
For each token a line comes out: "accept", or "refuse" and why."""

import json
import sys

from joserfc import jwt
from joserfc.jwk import KeySet

policy = json.loads(sys.stdin.readline())
keys = KeySet.import_key_set(policy["keys"])
claims = jwt.JWTClaimsRegistry(
    now=policy["now"],
    leeway=policy["leeway"],
    iss={"essential": True, "value": policy["issuer"]},
    aud={"essential": True, "value": policy["audience"]},
    exp={"essential": True},
)
for line in sys.stdin:
    try:
        claims.validate(jwt.decode(json.loads(line), keys, algorithms=policy["algorithms"]).claims)
        print("accept")
    except Exception as error:  # whatever it is, the token was not accepted
        print("refuse", type(error).__name__, ascii(str(error)))
