/** The machine, as far as it explains figures. */
import { readFileSync, statfsSync } from 'node:fs'
import { cpus, release, totalmem, type } from 'node:os'

export interface Machine {
  cpu: string
  cores: number
  memory_bytes: number
  system: string
  /** Of the folder that files go to. */
  file_system: string
  /** What the kernel's rows send with; xferd asks for reno on loopback. */
  congestion_control: string | undefined
  node: string
}

export function machine(folder: string): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memory_bytes: totalmem(),
    system: `${type()} ${release()}`,
    file_system: fileSystem(folder),
    congestion_control: told('/proc/sys/net/ipv4/tcp_congestion_control'),
    node: process.version,
  }
}

/** The type of the mount that is the longest beginning of `folder`; its number where there is no list of mounts. */
function fileSystem(folder: string): string {
  const mounts = (told('/proc/mounts') ?? '').split('\n').map((line) => line.split(' '))
  const above = mounts.filter(([, point = '']) => `${folder}/`.startsWith(point === '/' ? '/' : `${point}/`))
  const [, , name] = above.sort((one, other) => (other[1]?.length ?? 0) - (one[1]?.length ?? 0))[0] ?? []
  return name ?? `0x${statfsSync(folder).type.toString(16)}`
}

function told(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}
