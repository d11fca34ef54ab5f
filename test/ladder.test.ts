/*
 * All kills, and the pauses of each operation in one kind of lock; `npm run test:deep` has the other kind, the long waits, and strace.
 * They run side by side: they mostly wait.
 */
import { expect, test } from 'vitest'
import { kill, kindsOf, OPERATIONS, pause } from './ladder.js'

/** They take half a minute together; longer where the machine is busy. */
const LIMIT_MS = 180_000

const failed = async (ladders: Promise<void>[]) => (await Promise.allSettled(ladders)).filter(({ status }) => status === 'rejected')

test('SIGKILL at every call of acquire, renew, release and recovery: the contender gets in, nothing is left', async () => {
  expect(await failed(OPERATIONS.map(kill))).toEqual([])
}, LIMIT_MS)

test('SIGSTOP beyond the TTL at every call: never two inside their leases', async () => {
  expect(await failed(OPERATIONS.map((operation) => pause(operation, kindsOf(operation)[0]!)))).toEqual([])
}, LIMIT_MS)
