// Builds the simulator, with doubles in the place of the kernel, and runs it with the given options.
import { spawnSync } from 'node:child_process'

const flags = [
  'run',
  '--quiet',
  '--profile',
  'simulator',
  '--package',
  'xferd-simulator',
  '--target-dir',
  'target/sim',
]
const env = { ...process.env, RUSTFLAGS: `${process.env.RUSTFLAGS ?? ''} --cfg xferd_sim`.trim() }
const { status } = spawnSync('cargo', [...flags, '--', ...process.argv.slice(2)], { env, stdio: 'inherit' })
process.exitCode = status ?? 1
