/* Six sessions stand for one leadership, for a minute; the same as in `npm test`, longer. */
import { test } from 'vitest'
import { electionStorm } from '../election.js'
import { tempFolder } from '../support.js'

test('a storm of elections: 60 s of SIGKILL and SIGSTOP', async () => {
  console.log(`election: ${await electionStorm(tempFolder(), 60_000)}`)
})
