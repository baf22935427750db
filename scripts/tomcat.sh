#!/usr/bin/env bash
# Runs the test origin, testdata/oscar, on Debian's Tomcat 10: scripts/tomcat.sh check|run
#   check   says whether this machine can (0) or what is missing (1)
#   run     prepares TOMCAT_DIR where it is new, then becomes Tomcat; SIGTERM ends it
# Environment, with defaults:
#   TOMCAT_DIR                      directory for certificate, classes, logs (required to run)
#   TOMCAT_ADDRESS=127.0.0.1        address to listen on; 0.0.0.0 for all
#   TOMCAT_HTTPS_PORT=9443          0 takes a free one, which the log names
#   TOMCAT_HTTP_PORT=               a plain port as well
#   TOMCAT_REMOTE_IP_VALVE=         yes: believe X-Forwarded-For and X-Forwarded-Proto, from anyone, as clinics configure it
#   TOMCAT_HTTPS_SERVER_PORT=443    the public port that the valve reports
#   TOMCAT_THREADS=200  TOMCAT_RELAXED_PATH=  TOMCAT_RELAXED_QUERY='[]'  TOMCAT_ENCODED_SOLIDUS=reject  TOMCAT_REJECT_SUSPICIOUS=false
#   TOMCAT_HEAP=256m
set -eu -o pipefail

home=${CATALINA_HOME:-/usr/share/tomcat10}
compiler=/usr/share/java/eclipse-jdt-core.jar
source=$(cd "$(dirname "$0")/../testdata/oscar" && pwd)

check() {
  local missing=()
  command -v java >/dev/null && command -v keytool >/dev/null || missing+=(default-jre-headless)
  [[ -e $home/bin/bootstrap.jar && -e $home/lib/catalina.jar && -e $compiler ]] || missing+=(tomcat10)
  [[ ${#missing[@]} -eq 0 ]] && return 0
  echo "tomcat.sh: missing: ${missing[*]} (apt-get install ${missing[*]})" >&2
  return 1
}

quick=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto)

certificate() {
  [[ -e $base/conf/origin.p12 ]] && return 0
  keytool -J-XX:TieredStopAtLevel=1 -genkeypair -alias origin -keyalg EC -groupname secp256r1 -validity 3650 -dname 'CN=oscar.clinic.test' \
    -ext 'SAN=dns:localhost,dns:oscar.clinic.test,ip:127.0.0.1' -storetype PKCS12 -storepass changeit -keystore "$base/conf/origin.p12.new" >/dev/null 2>&1
  mv "$base/conf/origin.p12.new" "$base/conf/origin.p12"
}

# The compiler is the one with which Tomcat compiles pages: a JRE is enough.
classes() {
  local out=$base/webapps/oscar/WEB-INF/classes other
  java "${quick[@]}" -cp "$compiler" org.eclipse.jdt.internal.compiler.batch.Main -17 -proc:none -nowarn -encoding UTF-8 \
    -cp "$home/lib/servlet-api.jar:$home/lib/websocket-api.jar:$home/lib/websocket-client-api.jar:$home/lib/catalina.jar:$home/lib/tomcat-coyote.jar" \
    -d "$out" "$source/src"
  for other in "$base"/webapps/*/; do
    [[ $other -ef $base/webapps/oscar ]] || cp -R "$out" "$other/WEB-INF/"
  done
}

prepare() {
  mkdir -p "$base"/{conf,lib,logs,temp,work}
  rm -rf "$base/webapps"
  cp -R "$source/webapps" "$base/webapps"
  cp "$source/conf/context.xml" "$source/conf/logging.properties" "$base/conf/"
  cp /etc/tomcat10/web.xml "$base/conf/web.xml"
  printf 'common.loader="%s/lib/*.jar","%s/lib/*.jar"\ntomcat.util.scan.StandardJarScanFilter.jarsToSkip=*.jar\n' "$base" "$home" \
    >"$base/conf/catalina.properties"
  ln -sf "$compiler" "$base/lib/eclipse-jdt-core.jar"
  local http='' valve=''
  [[ -z ${TOMCAT_HTTP_PORT:-} ]] || http='<Connector port="${oscar.http.port}" address="${oscar.address}" protocol="HTTP/1.1" redirectPort="8443" connectionTimeout="20000" maxThreads="${oscar.threads}" maxSwallowSize="-1" relaxedPathChars="${oscar.relaxed.path}" relaxedQueryChars="${oscar.relaxed.query}" encodedSolidusHandling="${oscar.encoded.solidus}" rejectSuspiciousURIs="${oscar.reject.suspicious}" maxKeepAliveRequests="-1" />'
  [[ ${TOMCAT_REMOTE_IP_VALVE:-} != yes ]] || valve='<Valve className="org.apache.catalina.valves.RemoteIpValve" remoteIpHeader="x-forwarded-for" protocolHeader="x-forwarded-proto" internalProxies=".*" httpsServerPort="${oscar.https.server.port}" />'
  sed -e "s|<!--@HTTP@-->|$http|" -e "s|<!--@VALVE@-->|$valve|" "$source/conf/server.xml" >"$base/conf/server.xml"
  certificate &
  local keys=$!
  classes
  wait "$keys"
}

run() {
  base=${TOMCAT_DIR:?"tomcat.sh: TOMCAT_DIR says where to put the instance"}
  mkdir -p "$base"
  base=$(cd "$base" && pwd)
  check
  prepare
  exec java -XX:+UseSerialGC "-Xmx${TOMCAT_HEAP:-256m}" -Djava.awt.headless=true \
    -Djava.util.logging.config.file="$base/conf/logging.properties" -Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager \
    -Dcatalina.home="$home" -Dcatalina.base="$base" -Djava.io.tmpdir="$base/temp" \
    -Doscar.address="${TOMCAT_ADDRESS:-127.0.0.1}" -Doscar.https.port="${TOMCAT_HTTPS_PORT:-9443}" -Doscar.http.port="${TOMCAT_HTTP_PORT:-0}" \
    -Doscar.https.server.port="${TOMCAT_HTTPS_SERVER_PORT:-443}" -Doscar.threads="${TOMCAT_THREADS:-200}" \
    -Doscar.relaxed.path="${TOMCAT_RELAXED_PATH:-}" -Doscar.relaxed.query="${TOMCAT_RELAXED_QUERY-[]}" \
    -Doscar.encoded.solidus="${TOMCAT_ENCODED_SOLIDUS:-reject}" -Doscar.reject.suspicious="${TOMCAT_REJECT_SUSPICIOUS:-false}" \
    -cp "$home/bin/bootstrap.jar:$home/bin/tomcat-juli.jar" org.apache.catalina.startup.Bootstrap start
}

case ${1:-} in
  check) check ;;
  run) run ;;
  *) sed -n 2,15p "$0" >&2; exit 2 ;;
esac
