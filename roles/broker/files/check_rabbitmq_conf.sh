#!/bin/sh
# Check a rabbitmq.conf against the schemas of RabbitMQ and its plugins, without starting it.
# Usage: check_rabbitmq_conf FILE. Exit 0 when it is fine, else the reasons on stderr.
#        check_rabbitmq_conf --terms FILE: a file of one Erlang term, as other settings are.
set -eu
# A value it chokes on must not hold up the run.
erlang() {
  exec timeout 60 erl -noinput -boot start_clean +S 1:1 +sbwt none "$@"
}
if [ "$1" = --terms ]; then
  erlang -eval '
    case file:consult(hd(init:get_plain_arguments())) of
      {ok, [_]} -> halt(0);
      Wrong -> io:format(standard_error, "~tp~n", [Wrong]), halt(1)
    end.' -extra "$2"
fi
plugins=$(echo /usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins)
erlang -pa "$plugins"/*/ebin \
  -eval '
    [Plugins, File] = init:get_plain_arguments(),
    Schemas = filelib:wildcard(Plugins ++ "/*/priv/schema/*.schema")
      ++ filelib:wildcard(Plugins ++ "/sysmon_handler*/priv/*.schema"),
    Fail = fun(What) -> io:format(standard_error, "~tp~n", [What]), halt(1) end,
    Conf = case cuttlefish_conf:file(File) of
      {errorlist, Errors} -> Fail(Errors);
      Read -> Read
    end,
    case cuttlefish_generator:map(cuttlefish_schema:files(Schemas), Conf) of
      {error, _, {errorlist, Why}} -> Fail([lists:flatten(cuttlefish_error:xlate(E)) || {error, E} <- Why]);
      {error, Phase, Reason} -> Fail({Phase, Reason});
      _ -> halt(0)
    end.' -extra "$plugins" "$1"
