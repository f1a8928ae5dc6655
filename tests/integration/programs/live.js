// live FILE READS SCHEMA: as live.c, in Node by koffi.
const koffi = require("koffi");
const [path, reads, schema] = [process.argv[2], Number(process.argv[3]), BigInt(process.argv[4])];

const Level = koffi.struct("Level", { price: "double", count: "uint32_t" });
const Origin = koffi.struct("Origin", { x: "int16_t", y: "int16_t" });
const Live = koffi.struct("Live", {
	seq: "uint64_t", neg: "int64_t", half: "double", third: "float", low: "uint32_t", byte: "uint8_t", odd: "bool",
	venue: koffi.array("uint8_t", 16), blob: koffi.array("uint8_t", 12), depth: koffi.array("double", 10),
	levels: koffi.array(Level, 3), origin: Origin,
});
const library = koffi.load(path);
const snapshotOf = library.func("int live_snapshot_of(_Out_ Live *out, uint64_t schema, _Out_ uint64_t *version)");
const half = library.func("double live_half()");
const version = library.func("uint64_t live_version()");
const assert = require("assert");

let last = 0, versions = 0;
for (let i = 0; i < reads || versions < 100; i++) {
	const r = {}, seen = [0];
	const answer = snapshotOf(r, schema, seen);
	if (answer === 2) continue; // lapped
	const n = Number(seen[0]);
	assert.strictEqual(answer, 0);
	assert.ok(r.seq === n && n >= last);
	assert.ok(r.neg === -n && r.half === n / 2 && r.third === (n % 4096) / 4);
	assert.ok(r.low === n % 2 ** 32 && r.byte === n % 256 && r.odd === (n % 2 === 1));
	assert.strictEqual(Buffer.from(r.venue).toString().replace(/\0+$/, ""), `v${n % 100000000000000}`);
	assert.ok(Array.from(r.blob).every((b) => b === n % 256));
	assert.ok(Array.from(r.depth).every((d, k) => d === n + k));
	assert.ok(r.levels.every((l, k) => l.price === n * (k + 1) && l.count === (n + k) % 2 ** 32));
	assert.ok((r.origin.x & 0xffff) === n % 65536 && ((r.origin.y ^ -1) & 0xffff) === n % 65536);
	const before = Number(version()) / 2, value = half();
	assert.ok(before <= value && value <= Number(version()) / 2);
	versions += n !== last;
	last = n;
}
console.log(versions);
