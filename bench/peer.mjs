/*
 * The other process of a measurement: `node peer.mjs <library> <role> <file> [count]`. It says `ready`, and does its part when
 * it is told to; what it has measured it sends.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { now } from './measure.mjs'

const [library, role, file, count = '1'] = process.argv.slice(2)
const { acquireLock } = await import(library)

const roles = {
  // Until it is killed.
  async hold() {
    await acquireLock(file, { owner: 'bench' })
    setInterval(() => {}, 1e6)
    process.send('held')
  },
  async wait() {
    const waiting = acquireLock(file, { wait: '60s' })
    process.send('waiting')
    const lock = await waiting
    process.send(now())
    await lock.release()
    process.disconnect()
  },
  // Takes turns with another one: each holds for a moment, and is back in the queue before the other lets go.
  async swap() {
    const log = []
    for (let turns = 0; turns < Number(count); turns++) {
      const lock = await acquireLock(file, { wait: '60s' })
      const taken = now()
      await sleep(8 + Math.random() * 8)
      const released = now()
      await lock.release()
      log.push({ pid: process.pid, taken, released })
      await sleep(2)
    }
    process.send(log)
    process.disconnect()
  },
}

process.once('message', roles[role])
process.send('ready')
