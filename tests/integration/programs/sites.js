// Reads the clock for ever.
function currentTime() {
  return Date.now();
}
let sum = 0;
for (;;) sum += currentTime();
