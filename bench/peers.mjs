import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { median, now, percentile } from './measure.mjs'

const PEER = join(import.meta.dirname, 'peer.mjs')

async function start(...args) {
  const peer = fork(PEER, args.map(String))
  await answer(peer) // it is ready
  return peer
}

async function answer(peer) {
  const [message] = await once(peer, 'message')
  return message
}

async function ask(peer) {
  peer.send('go')
  return await answer(peer)
}

async function kill(peer) {
  const exit = once(peer, 'exit')
  peer.kill('SIGKILL')
  await exit
}

/** From one process's call of release to the return of the other one's acquire. */
export async function measureHandOver(library, folder, { quick }) {
  const peers = await Promise.all([0, 1].map(() => start(library, 'swap', join(folder, 'swap'), quick ? 50 : 300)))
  const holds = (await Promise.all(peers.map(ask))).flat().sort((a, b) => a.taken - b.taken)
  const times = holds.flatMap((hold, at) => (at > 0 && holds[at - 1].pid !== hold.pid ? [hold.taken - holds[at - 1].released] : []))
  return [row('hand-over between two processes', times, 50, 1), row('hand-over between two processes', times, 99, 15)]
}

/** A holder is killed; how long until the next has its lock. */
export async function measureKilled(library, folder, { acquireLock }, { quick }) {
  const toWaiter = []
  const toNewcomer = []
  for (let times = 0; times < (quick ? 5 : 20); times++) {
    const file = join(folder, 'killed')
    const holder = await start(library, 'hold', file)
    await ask(holder)
    const waiter = await start(library, 'wait', file)
    await ask(waiter)
    await sleep(200 + Math.random() * 100) // its polling is anywhere in its step
    const taken = answer(waiter)
    const killed = now()
    await kill(holder)
    toWaiter.push((await taken) - killed)
    await once(waiter, 'exit')

    const second = await start(library, 'hold', file)
    await ask(second)
    await kill(second)
    const asked = now()
    const lock = await acquireLock(file)
    toNewcomer.push(now() - asked)
    await lock.release()
  }
  return [
    row('killed holder to waiter', toWaiter, 50, 100),
    row('killed holder to waiter', toWaiter, 100, 100),
    row('killed holder to newcomer', toNewcomer, 50, 5),
    row('killed holder to newcomer', toNewcomer, 100, 5),
  ]
}

export async function measureRefusal(library, folder, { acquireLock }, { quick }) {
  const file = join(folder, 'refused')
  const holder = await start(library, 'hold', file)
  await ask(holder)
  const times = []
  for (let calls = 0; calls < (quick ? 100 : 1000); calls++) {
    const asked = now()
    await acquireLock(file).catch(() => {})
    times.push(now() - asked)
  }
  await kill(holder)
  return [row('refusal', times, 50), row('refusal', times, 99)]
}

function row(what, times, percent, bar) {
  const ms = percent === 50 ? median(times) : percentile(times, percent)
  const which = percent === 50 ? 'median' : percent === 100 ? 'worst' : `${percent}th percentile`
  return { what: `${what}, ${which} of ${times.length}`, ms, ...(bar !== undefined && { bar: `${bar} ms`, isMet: ms <= bar }) }
}
