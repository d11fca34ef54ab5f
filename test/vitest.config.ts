import { defineConfig } from 'vitest/config'
import type { TestModule } from 'vitest/node'

/** What could not be tested here, and why. */
function printSkipped(modules: readonly TestModule[]): void {
  for (const module of modules) {
    for (const test of module.children.allTests('skipped')) {
      const result = test.result()
      console.log(`skipped: ${test.fullName}: ${result.state === 'skipped' && result.note ? result.note : 'no reason given'}`)
    }
  }
}

export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['**/*.test.ts'],
    // Real processes and waits: the limit is for what hangs, not a measurement.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 2,
    // Those of the agent that runs the tests.
    env: { CODEX_SESSION_ID: '', CODEX_THREAD_ID: '' },
    reporters: ['default', { onTestRunEnd: printSkipped }],
  },
})
