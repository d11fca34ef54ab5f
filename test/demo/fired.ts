/*
 * One of the two jobs that the gate is for, as a process: at every fire it asks, and if it may go, does one item of the queue and
 * logs it.
 */
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { appendLine, finishItem, takeItem } from 'lockpact/files'
import { gate } from 'lockpact/work'
import { subject } from './queue.js'
import type { Answer } from './tally.js'

export interface FiredOrder {
  name: string
  folder: string
  cooldownMs: number | undefined
  runMs: number
}

const { name, folder, cooldownMs, runMs }: FiredOrder = JSON.parse(process.argv[2]!)
const queueFile = join(folder, 'memory/contribution-queue.md')
const logFile = join(folder, 'memory/heartbeat-log.md')

async function fire(): Promise<Omit<Answer, 'fire'>> {
  const asked = performance.now()
  const answer = await gate('contribution', { cooldown: cooldownMs, owner: name, pid: process.pid, dir: folder })
  const askMs = performance.now() - asked
  if (!answer.go) return { skipped: { reason: answer.reason, by: answer.by }, askMs }
  const taken = await takeItem(queueFile, { owner: name })
  await pause(runMs)
  if (taken) await finishItem(queueFile, taken.token, { result: `shipped by ${name}` })
  const what = taken ? subject(taken.item.text.split('\n')[0]!) : 'a look around, the queue is empty'
  await appendLine(logFile, `${name} — shipped: ${what}`)
  await answer.complete(what)
  return { askMs }
}

process.on('disconnect', () => process.exit())
process.on('message', () => fire().then((answer) => process.send!(answer)))
process.send!('ready')
