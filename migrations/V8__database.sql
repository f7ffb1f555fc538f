-- Which database of its cluster this is, beside which cluster: a copy within the same one (a dump, a template) is told from its
-- original by nothing else. Empty until the next leader has recorded it.
ALTER TABLE rowcast.state ADD COLUMN database_oid oid;
