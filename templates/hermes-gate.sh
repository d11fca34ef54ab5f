#!/usr/bin/env bash
# Copy to ~/.hermes/scripts/heartbeat-gate.sh (Hermes runs no script from elsewhere), and make the job:
#
#   hermes cron create "every 1h" "PROMPT" --name heartbeat --script heartbeat-gate.sh
#
# Hermes runs it before the agent: a last line {"wakeAgent": false} means that no model is started; anything else is shown to the agent.
# When the script fails, the agent starts: that is seen, a job that never runs is not.
#
# End the PROMPT with: "The line above has a token. When it is shipped, run in ~/project: node_modules/.bin/lockpact done heartbeat --token
# TOKEN --note 'what'. Nothing to do: node_modules/.bin/lockpact free heartbeat --token TOKEN."
cd "$HOME/project" || exit 1 # the folder with .lockpact
exec node_modules/.bin/lockpact gate heartbeat --cooldown 15m --owner hourly --emit wake
