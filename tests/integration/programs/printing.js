// Prints MONOTONIC, REALTIME and MONOTONIC again in ns, a line each time, until its standard input ends.
const fs = require("fs");

process.stdin.on("end", () => process.exit(0)).resume();

function print() {
  for (let i = 0; i < 100; i++) {
    const before = process.hrtime.bigint();
    const now = Date.now();
    const after = process.hrtime.bigint();
    fs.writeSync(1, `${before} ${BigInt(now) * 1000000n} ${after}\n`);
  }
  setImmediate(print);
}
print();
