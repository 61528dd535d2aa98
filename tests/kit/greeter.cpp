// greeter.cpp: a plugin in C++, by the header as it stands.
#include "pgmqd-plugin.h"

#include <string>

namespace {

struct greeter {
	const char *greeting;
};

const pgmqd_option options[] = {
	{ "greeting", PGMQD_STRING, 0, offsetof(greeter, greeting), "Hello", "Word to greet with.", nullptr, nullptr },
	{ nullptr, pgmqd_option_type(0), 0, 0, nullptr, nullptr, nullptr, nullptr },
};

void deliver(void *h, pgmqd_msg *m)
{
	const char *name = pgmqd_msg_str(m, "/name");

	if (name == nullptr)
		pgmqd_fail(m, "the message has no \"name\"");
	else
		pgmqd_retry(m, 0, "%s", (std::string(static_cast<greeter *>(h)->greeting) + ", " + name).c_str());
}

pgmqd_plugin describe()
{
	pgmqd_plugin p = {};

	p.name = "greeter";
	p.version = "1.0";
	p.summary = "greets";
	p.options = options;
	p.handle_size = sizeof(greeter);
	p.deliver = deliver;
	return p;
}

pgmqd_plugin greeter_plugin = describe();

} // namespace

PGMQD_REGISTER_PLUGIN(greeter_plugin);
