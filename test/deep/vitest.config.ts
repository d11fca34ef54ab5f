import { defineConfig } from 'vitest/config'

/** `npm run test:deep`: minutes, not seconds, on real processes. */
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['**/*.deep.ts'],
    testTimeout: 600_000,
    pool: 'forks',
    // They measure when somebody gets in: one at a time.
    maxWorkers: 1,
    fileParallelism: false,
    env: { CODEX_SESSION_ID: '', CODEX_THREAD_ID: '' },
  },
})
