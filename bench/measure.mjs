/** Milliseconds; on Linux one clock for all processes. */
export const now = () => Number(process.hrtime.bigint()) / 1e6

export const median = (values) => percentile(values, 50)

export function percentile(values, percent) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))]
}

/**
 * Runs the contenders in turns (A B C, B C A, …), a batch each, so that what disturbs the machine disturbs all of them.
 * Gives for each name the milliseconds of one call, one number per round.
 */
export async function inTurns(contenders, { rounds, batch }) {
  const names = Object.keys(contenders)
  const samples = Object.fromEntries(names.map((name) => [name, []]))
  for (let round = -WARM_UP; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(turn + round + WARM_UP) % names.length]
      const { call, isSync = false } = contenders[name]
      const started = now()
      if (isSync) for (let calls = 0; calls < batch; calls++) call()
      else for (let calls = 0; calls < batch; calls++) await call()
      if (round >= 0) samples[name].push((now() - started) / batch)
      // What a contender left for the event loop is not the next one's.
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
  return samples
}

/** The same call by call, for what is long enough to be timed alone; `before` and `after` a call do not count. */
export async function callByCall(contenders, calls) {
  const samples = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]))
  for (let round = -WARM_UP; round < calls; round++) {
    for (const [name, { before, call, after }] of Object.entries(contenders)) {
      await before?.()
      const started = now()
      await call()
      if (round >= 0) samples[name].push(now() - started)
      await after?.()
    }
  }
  return samples
}

const WARM_UP = 5

/** The median of the ratios round by round: the neighbours in time are compared. */
export const ratio = (samples, base) => median(samples.map((each, round) => each / base[round]))
