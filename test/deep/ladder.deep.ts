/* The ladders of `npm test`, in both kinds of locks; and what takes long. */
import { expect, test } from 'vitest'
import { kill, kindsOf, ladder, OPERATIONS, pause } from '../ladder.js'
import { climb, climbBesideSleeper, stampOfTheDead } from './rung.js'

for (const operation of OPERATIONS) test(`${operation.name}: SIGKILL at every call; the contender gets in, nothing is left`, () => kill(operation))

for (const operation of OPERATIONS) {
  for (const kind of kindsOf(operation)) {
    test(`${operation.name}, ${kind}: SIGSTOP beyond the TTL at every call; never two inside their leases`, () => pause(operation, kind))
  }
}

for (const { name, steps, dead, calls: atLeast } of OPERATIONS.slice(0, 2)) {
  test(`${name}, long TTL: stopped until an unstamped file is taken for abandoned; who publishes late has lost`, async () => {
    const deadStamp = dead && (await stampOfTheDead())
    const { struck, calls } = await ladder({ name, signal: 'SIGSTOP', atLeast: atLeast['renews by itself']!, width: 8 }, (strike) =>
      climb({ climb: { steps, renew: true, ttl: 20_000, strike }, deadStamp, pause: { atMostMs: 7_000 } }),
    )
    const overtaken = struck.filter(({ overtaken }) => overtaken).length
    expect(overtaken).toBeGreaterThan(0)
    console.log(`${name}, long TTL: ${struck.length} pauses at ${calls} calls, ${overtaken} overtaken meanwhile`)
  })
}

test('recovery, stopped at every call while the holder wakes and renews late: one of them has it', async () => {
  const { name, calls: atLeast } = OPERATIONS[1]!
  const { struck, calls } = await ladder({ name, signal: 'SIGSTOP', atLeast: atLeast['final TTL']!, width: 3 }, (strike) => climbBesideSleeper({ steps: ['acquire'], renew: false, strike }))
  const renewed = struck.filter(({ renewed }) => renewed).length
  expect(renewed).toBeGreaterThan(0)
  console.log(`recovery beside a sleeper: ${struck.length} pauses at ${calls} calls, the sleeper got its lease back ${renewed} times`)
})
