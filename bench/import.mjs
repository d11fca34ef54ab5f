// Run as `node import.mjs <module>`: how long the import takes inside a process that has started.
const started = performance.now()
await import(process.argv[2])
process.stdout.write(String(performance.now() - started))
