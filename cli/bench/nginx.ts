/** curl, and nginx that stores what is PUT (its WebDAV module) or hands out files. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import type { Contender } from './contender.js'
import { accepting, copyNames, freePort, installed, launch, run, stop, timed } from './processes.mjs'

export const nginx: Contender = {
  name: 'curl and nginx',
  kind: 'peer',
  keepsCopies: true,
  async start({ load: { clients, direction }, source, root, copies, scratch }) {
    const [curl, daemon] = [installed('curl'), installed('nginx')]
    const { stderr } = await run(daemon, '-V')
    if (!stderr.includes('http_dav_module')) {
      throw new Error('this nginx is built without its dav module; install one that has it')
    }
    const { stdout } = await run(curl, '--version')
    const port = await freePort()
    const config = join(scratch, 'nginx.conf')
    const own = join(scratch, 'nginx')
    mkdirSync(own)
    writeFileSync(config, configuration(own, root, port))
    const server = launch(daemon, '-c', config, '-p', own)
    await accepting(server, port)
    // Whatever is set up on this machine: no ~/.curlrc (-q has to come first), no proxy.
    const options = ['-q', '--silent', '--show-error', '--fail', '--noproxy', '*']
    const url = `http://127.0.0.1:${port}`
    const move = (name: string): Promise<unknown> =>
      direction === 'push'
        ? run(curl, ...options, '-T', source, `${url}/${name}`)
        : run(curl, ...options, '-o', join(copies, name), `${url}/source`)
    return {
      version: `curl ${stdout.split(' ')[1]}, nginx ${/nginx\/(\S+)/.exec(stderr)?.[1]}`,
      move: async () => ({ seconds: await timed(() => Promise.all(copyNames(clients).map(move))) }),
      stop: () => stop(server),
    }
  },
}

/** Bodies are collected in the file system of the root, so that a stored file is renamed and not copied. */
function configuration(own: string, root: string, port: number): string {
  // As root its workers would otherwise become somebody who may not write there.
  const identity = process.getuid?.() === 0 ? `user ${userInfo().username};` : ''
  return `
daemon off;
worker_processes auto;
pid ${own}/pid;
error_log ${own}/log;
${identity}
events {}
http {
  access_log off;
  sendfile on;
  client_max_body_size 0;
  client_body_temp_path ${own}/body;
  proxy_temp_path ${own}/proxy;
  fastcgi_temp_path ${own}/fastcgi;
  uwsgi_temp_path ${own}/uwsgi;
  scgi_temp_path ${own}/scgi;
  server {
    listen 127.0.0.1:${port};
    root ${root};
    location / { dav_methods PUT; }
  }
}
`
}
