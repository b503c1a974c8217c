// Judges tokens with jose: the first line of the input is the policy, each other one a token, all of them in JSON.
// For each token a line comes out: "accept", or "refuse" and why.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// Modules are found from this file's place, the library is where `make deps` has put it.
const require = createRequire(pathToFileURL(process.argv[2] + "/"));
const { createLocalJWKSet, jwtVerify } = await import(pathToFileURL(require.resolve("jose")));

let keys, options;
for await (const line of createInterface({ input: process.stdin })) {
  if (!keys) {
    const policy = JSON.parse(line);
    keys = createLocalJWKSet(policy.keys);
    options = {
      algorithms: policy.algorithms,
      issuer: policy.issuer,
      audience: policy.audience,
      clockTolerance: policy.leeway,
      currentDate: new Date(policy.now * 1000),
      requiredClaims: ["exp"],
    };
    continue;
  }
  try {
    await jwtVerify(JSON.parse(line), keys, options);
    console.log("accept");
  } catch (error) {
    console.log("refuse", error.name, JSON.stringify(String(error.message)));
  }
}
